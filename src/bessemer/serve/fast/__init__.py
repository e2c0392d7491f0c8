"""The gateway's own HTTP/1.1 server, and the short way through it to a model behind another server.

`http` speaks HTTP, `bridge` carries a request to an ASGI application, `forward` carries one as bytes to an upstream
server over `pool`; `admission` says who may, `committer` books before the last byte leaves.
"""
