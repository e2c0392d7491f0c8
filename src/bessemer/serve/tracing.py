"""OpenTelemetry: one span for each request, under the caller's trace, with the attributes of ``gen_ai``; below an
agent's, one for each act of its model and each call of a tool.

No word of what was asked or answered is in them. Where they are sent say OpenTelemetry's own variables, such as
``OTEL_EXPORTER_OTLP_ENDPOINT`` and ``OTEL_RESOURCE_ATTRIBUTES``, which its SDK reads.

Owns the names of the attributes. Needs opentelemetry-sdk and its exporter. Source: OpenTelemetry semantic conventions
for generative AI, https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/ (status: development).
"""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from bessemer.core.acting import Act
from bessemer.serve.observing import Seen

NANO = 1_000_000_000


def open_traces(service: str) -> Traces:
    """Return what sends each request as a span, in batches, off the event loop.

    Args:
        service: ``service.name`` of the spans.
    """
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Traces(provider)


class Traces:
    """Watches requests and tells each as a span when it is over.

    Args:
        provider: makes spans; closed with this.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("bessemer.serve")
        self._propagator = TraceContextTextMapPropagator()

    def close(self) -> None:
        """Send what was not sent yet."""
        self._provider.shutdown()

    def began(self, seen: Seen, /) -> None:
        """Nothing is told of a request under way."""

    def ended(self, seen: Seen, /) -> None:
        """Tell a request as a span with its own times."""
        subject, spent = seen.subject, seen.spent
        read, written, _ = spent.usage if spent else (seen.usage.input_tokens, seen.usage.output_tokens, 0)
        attributes: dict[str, str | int | float | tuple[str, ...]] = {
            "gen_ai.operation.name": "invoke_agent" if seen.acts else "chat",
            "gen_ai.provider.name": "bessemer",
            "gen_ai.request.model": subject.model,
            "gen_ai.response.model": subject.model,
            "gen_ai.response.id": subject.id,
            "gen_ai.usage.input_tokens": read,
            "gen_ai.usage.output_tokens": written,
            "bessemer.project": subject.project,
        }
        if seen.finish_reason:
            attributes["gen_ai.response.finish_reasons"] = (seen.finish_reason,)
        if seen.first_token_seconds is not None:
            attributes["bessemer.time_to_first_token_seconds"] = seen.first_token_seconds
        if seen.entry:
            attributes["bessemer.energy_joules"] = seen.entry.measurement.joules
            attributes["bessemer.energy_class"] = seen.entry.measurement.energy_class.value
        elif spent and spent.terms:
            attributes["bessemer.energy_joules"] = spent.microjoules[0] / 1e6
            attributes["bessemer.energy_class"] = spent.terms.energy_class
        span = self._tracer.start_span(
            f"{attributes['gen_ai.operation.name']} {subject.model}",
            context=self._propagator.extract({"traceparent": seen.parent} if seen.parent else {}),
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=round(seen.began * NANO),
        )
        for act in seen.acts:
            self._act(act, set_span_in_context(span))
        if seen.status == "error" or (seen.status == "broken" and not seen.finish_reason):
            span.set_attribute("error.type", "internal_error")
            span.set_status(Status(StatusCode.ERROR))
        span.end(round((seen.began + seen.seconds) * NANO))

    def _act(self, act: Act, parent: Context) -> None:
        """Tell an act of an agent as a span below its request's: which tool or model, how long, no words."""
        tool = act.kind == "tool"
        attributes: dict[str, str | int] = {"gen_ai.operation.name": "execute_tool" if tool else "chat"}
        if tool:
            attributes |= {
                "gen_ai.tool.name": act.name,
                "gen_ai.tool.call.id": act.call_id,
                "gen_ai.tool.type": "function",
            }
        else:
            attributes |= {
                "gen_ai.request.model": act.name,
                "gen_ai.usage.input_tokens": act.usage.input_tokens,
                "gen_ai.usage.output_tokens": act.usage.output_tokens,
            }
        span = self._tracer.start_span(
            f"{attributes['gen_ai.operation.name']} {act.name}",
            context=parent,
            kind=SpanKind.INTERNAL if tool else SpanKind.CLIENT,
            attributes=attributes,
            start_time=round(act.began * NANO),
        )
        if act.error:
            span.set_attribute("error.type", act.error)
            span.set_status(Status(StatusCode.ERROR))
        span.end(round((act.began + act.seconds) * NANO))
