"""Plans add up, follow their inputs the right way round, and refuse what cannot be."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bessemer.cli.app import app
from bessemer.core.errors import ConfigError, NotFound, Unsupported
from bessemer.twin.accelerators import accelerator
from bessemer.twin.answer import with_part
from bessemer.twin.changes import of_site
from bessemer.twin.clouds import offer, offers
from bessemer.twin.plan import plan
from bessemer.twin.power import capped_ratio, site_power
from bessemer.twin.site import Site, load_site, reference_sites
from bessemer.twin.workload import Layout, Serving, Training

TODAY = date(2026, 11, 23)


def rented(site: Site, provider: str) -> Site:
    return site.model_copy(update={"money": site.money.model_copy(update={"tenure": "rented", "provider": provider})})


@pytest.fixture
def small() -> Site:
    return load_site("dgx-h100")


def test_the_figures_of_a_training_plan_agree_with_each_other(small: Site) -> None:
    work = Training(model="Llama-3.1-8B", tokens=1e9)
    found = plan(small, work, TODAY)
    answer = found.answer
    assert answer["tokens_per_second"].mid == pytest.approx(1e9 / answer["days"].mid / 86400)
    assert answer["usd_per_million_tokens"].mid == pytest.approx(answer["cost_usd"].mid / 1000)
    assert answer["energy_kwh"].mid / answer["days"].mid / 24 < small.nodes[0].rated_watts / 1000 * 1.5
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert 0.1 < answer["mfu_ratio"].mid < 1.0
    for name, given in answer.items():
        assert given.low <= given.mid <= given.high, name


def test_more_work_costs_more_in_proportion(small: Site) -> None:
    once, twice = (plan(small, Training(tokens=n), TODAY).answer["cost_usd"].mid for n in (1e9, 2e9))
    assert twice == pytest.approx(2 * once, rel=1e-6)


def test_changes_are_cheaper_and_sorted(small: Site) -> None:
    changes = plan(small, Training(model="Llama-3.1-8B", tokens=1e9), TODAY).changes
    assert any("fp8" in change.name for change in changes)
    ratios = [change.cost_ratio for change in changes]
    assert ratios == sorted(ratios)
    assert max(ratios) < 1


def test_what_cannot_fit_says_the_least_that_does(small: Site) -> None:
    with pytest.raises(Unsupported, match="needs"):
        plan(small, Training(model="Llama-3.1-70B", layout=Layout(data=8, sharded="none")), TODAY)
    with pytest.raises(Unsupported, match="wants 64"):
        plan(small, Training(accelerators=64), TODAY)


def servers(count: int) -> Site:
    pod = load_site("superpod-h100-127")
    return pod.model_copy(update={"nodes": (pod.nodes[0].model_copy(update={"count": count}),)})


@pytest.mark.parametrize(
    ("model", "method", "batch"),
    [("Llama-3.1-405B", "pretrain", 512), ("Llama-3.1-70B", "pretrain", 48), ("Mixtral-8x22B", "finetune", 512)],
)
def test_the_least_servers_do_and_one_fewer_does_not(model: str, method: str, batch: int) -> None:
    work = Training(model=model, method=method, batch_sequences=batch, tokens=1e9)  # type: ignore[arg-type]
    with pytest.raises(Unsupported) as caught:
        plan(servers(1), work, TODAY)
    least = int(caught.value.hint.split("change: ")[1].split(" ")[0].replace(",", ""))
    assert least > 8
    needed = -(-least // 8)
    assert plan(servers(needed), work.model_copy(update={"accelerators": least}), TODAY).answer["days"].mid > 0
    assert plan(servers(needed), work, TODAY).layout is not None
    with pytest.raises(Unsupported, match="does not fit"):
        plan(servers(needed - 1), work, TODAY)


def with_device(site: Site, name: str) -> Site:
    return site.model_copy(update={"nodes": (site.nodes[0].model_copy(update={"accelerator": name}),)})


@pytest.mark.parametrize(
    ("device", "precision", "hint"),
    [("A100-SXM-80GB", "fp8", "in bf16."), ("H100-SXM-80GB", "fp4", "in bf16 and fp8."), ("B200-SXM", "fp32", "bf16")],
)
def test_a_job_in_a_precision_that_its_accelerators_lack_is_refused(
    small: Site, device: str, precision: str, hint: str
) -> None:
    work = Training(tokens=1e9, precision=precision)  # type: ignore[arg-type]
    with pytest.raises(Unsupported, match=precision) as caught:
        plan(with_device(small, device), work, TODAY)
    assert hint in caught.value.hint
    assert plan(with_device(small, device), Training(tokens=1e9), TODAY, tries=False).answer["days"].mid > 0


def test_weights_narrower_than_any_unit_save_memory_and_are_said_to(small: Site) -> None:
    old = with_device(small, "A100-SXM-80GB")
    narrow, wide = (plan(old, Serving(precision=each), TODAY, tries=False) for each in ("fp8", "bf16"))
    assert "multiplied in bf16" in narrow.warnings[0] and not any("multiplied in" in line for line in wide.warnings)
    able = plan(small, Serving(precision="fp8"), TODAY, tries=False)
    assert not any("multiplied in" in line for line in able.warnings)
    with pytest.raises(Unsupported, match="fp32"):
        accelerator("A100").flop_per_second("fp32")


def test_unknown_parts_name_the_nearest(small: Site) -> None:
    with pytest.raises(NotFound) as caught:
        plan(small, Training(model="Llama-3.1-7B"), TODAY)
    assert "Llama-3.1" in caught.value.hint


def powered(site: Site, servers: int = 0, **changes: float) -> Site:
    nodes = tuple(each.model_copy(update={"count": servers}) for each in site.nodes) if servers else site.nodes
    return site.model_copy(update={"power": site.power.model_copy(update=changes), "nodes": nodes})


@pytest.mark.parametrize("diversity", [1.0, 0.9])
@pytest.mark.parametrize(
    ("name", "share", "way"), [("dgx-h100", 0.2, "raise"), ("dgx-h100", 0.6, "cap"), ("superpod-h100-127", 0.3, "take")]
)
def test_the_least_change_of_a_site_that_breaks_its_envelope_fits_and_less_does_not(
    name: str, share: float, way: str, diversity: float
) -> None:
    site, work = powered(load_site(name), diversity_ratio=diversity), Training(tokens=1e9, accelerators=8)
    envelope = share * site_power(site).facility_watts.mid * diversity
    broken = powered(site, envelope_watts=envelope)
    with pytest.raises(ConfigError, match=r"draws [\d.]+ MW at a load of 100%, [\d.]+ MW more than its grid") as caught:
        plan(broken, work, TODAY)
    told = [float(each.replace(",", "")) for each in re.findall(r"\d[\d,]*", caught.value.hint)]
    if way == "cap":
        assert "power.cap_watts" in caught.value.hint
        enough, less = (powered(broken, cap_watts=told[0] + more) for more in (0, 2))
    elif way == "take":
        assert told[1] == 127 and "servers away" in caught.value.hint
        enough, less = (powered(broken, servers=int(127 - told[0] + more)) for more in (0, 1))
    else:
        assert "away" not in caught.value.hint and "power.envelope_watts" in caught.value.hint
        enough, less = (powered(site, envelope_watts=told[-1] - less) for less in (0, 2))
    assert plan(enough, work, TODAY, tries=False).answer["days"].mid > 0
    with pytest.raises(ConfigError, match="more than its grid"):
        plan(less, work, TODAY, tries=False)
    if way == "take":
        plan(powered(site, envelope_watts=told[-1]), work, TODAY, tries=False)


def test_a_price_older_than_a_year_warns(small: Site) -> None:
    site = rented(small, "Lambda")
    assert not any("Lambda" in warning for warning in plan(site, Training(tokens=1e9), date(2026, 6, 1)).warnings)
    assert any("Lambda" in warning for warning in plan(site, Training(tokens=1e9), date(2027, 6, 1)).warnings)


def test_a_serving_plan_agrees_with_itself(small: Site) -> None:
    found = plan(small, Serving(model="Llama-3.1-8B", precision="fp8"), TODAY)
    answer = found.answer
    watts = answer["joules_per_token"].mid * answer["tokens_per_second"].mid
    assert 1_000 < watts < small.nodes[0].rated_watts * 1.5
    assert answer["replicas"].mid * answer["accelerators_per_replica"].mid <= small.accelerators


def test_traffic_below_what_a_site_can_do_costs_more_a_token(small: Site) -> None:
    full = plan(small, Serving(model="Llama-3.1-8B"), TODAY).answer["usd_per_million_tokens"].mid
    idle = plan(small, Serving(model="Llama-3.1-8B", requests_per_second=0.2), TODAY)
    assert idle.answer["usd_per_million_tokens"].mid > full
    with pytest.raises(Unsupported, match="requests a second"):
        plan(small, Serving(model="Llama-3.1-8B", requests_per_second=1e6), TODAY)


@pytest.mark.parametrize("disaggregated", [False, True])
@pytest.mark.parametrize(
    ("first", "token", "ways"),
    [(0.0, 1e-5, 1), (1e-3, 0.0, 1), (1.0, 1e-5, 1), (1e-3, 0.05, 1), (1e-3, 1e-5, 1), ("best", "best", 2)],
)
def test_the_least_change_of_an_impossible_limit_can_be_kept_and_less_cannot(
    first: float | str, token: float | str, ways: int, disaggregated: bool
) -> None:
    site = load_site("superpod-h100-127")
    asked = Serving(model="Llama-3.1-70B", disaggregated=disaggregated)
    fields = {"time_to_first_token_seconds": first, "time_per_output_token_seconds": token}
    limits = {name: at_best(site, asked, name) if value == "best" else value for name, value in fields.items()}
    with pytest.raises(Unsupported, match="no replica keeps these times") as caught:
        plan(site, asked.model_copy(update=limits), TODAY)
    assert ("not both at once" in caught.value.message) == (ways == 2)
    told = [
        {name: float(seconds) for name, seconds in re.findall(r"(time_\w+) ([\d.e-]+\d)", way)}
        for way in caught.value.hint.split(". ")[0].split(" or ")
    ]
    assert len(told) == ways and all(told)
    for changes in told:
        assert plan(site, asked.model_copy(update=limits | changes), TODAY, tries=False).answer["replicas"].mid >= 1
        below = {name: seconds * 0.998 for name, seconds in changes.items()}
        with pytest.raises(Unsupported, match="no replica keeps these times"):
            plan(site, asked.model_copy(update=limits | below), TODAY, tries=False)


def at_best(site: Site, work: Serving, name: str) -> float:
    with pytest.raises(Unsupported) as caught:
        plan(site, work.model_copy(update={name: 1e-9}), TODAY)
    return float(re.search(rf"{name} ([\d.e-]+\d)", caught.value.hint)[1])


@pytest.mark.parametrize("name", reference_sites())
def test_every_reference_site_can_be_planned(name: str) -> None:
    site = load_site(name)
    model = "Llama-3.1-8B" if site.accelerators >= 8 else "SmolLM2-135M"
    count = min(8, site.accelerators)
    work = Training(model=model, tokens=1e12, accelerators=count, batch_sequences=128)
    for asked in (work, Serving(model=model)):
        found = plan(site, asked, TODAY)
        assert all(given.mid > 0 for given in found.answer.values())


def test_a_laptop_is_planned_for_the_factory_that_comes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BESSEMER_HOME", str(tmp_path))
    done = CliRunner().invoke(app, ["plan", "--site", "laptop", "--json"])
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.output)
    assert found["site"] == "laptop" and found["answer"]["days"]["mid"] > 0
    device = load_site("laptop").nodes[0].device
    assert "measured on" in device.source and "EPYC" in device.source


def test_a_job_takes_the_number_of_accelerators_that_is_fastest_and_says_what_idles() -> None:
    pod = load_site("superpod-h100-127")
    work = Training(model="Llama-3.1-405B", tokens=1e11, batch_sequences=512)
    found = plan(pod, work, TODAY)
    assert found.layout is not None
    taken = found.layout.accelerators
    assert 0.9 * pod.accelerators < taken < pod.accelerators
    assert f"{taken:,} of the site's 1,016" in found.warnings[0] and f"{1016 - taken:,} stay idle" in found.warnings[0]
    whole = plan(pod, work.model_copy(update={"accelerators": 1016}), TODAY)
    assert found.answer["days"].mid < whole.answer["days"].mid / 2
    assert "less time for a step than 1,016" in whole.warnings[0]
    named = plan(pod, work.model_copy(update={"accelerators": taken}), TODAY)
    assert named.answer == found.answer and named.warnings == found.warnings[1:]
    with pytest.raises(Unsupported, match="does not fit on 1,015") as caught:
        plan(pod, work.model_copy(update={"accelerators": 1015}), TODAY)
    fewer = int(caught.value.hint.split("change: ")[1].split(" ")[0].replace(",", ""))
    assert plan(pod, work.model_copy(update={"accelerators": fewer}), TODAY).answer["days"].mid > 0


@pytest.mark.parametrize("name", ["oci-131072", "superpod-h100-127"])
@pytest.mark.parametrize("model", ["Llama-3.1-405B", "DeepSeek-V3"])
def test_no_half_and_no_quarter_of_a_site_ends_sooner(name: str, model: str) -> None:
    site = load_site(name)
    work = Training(model=model, tokens=1e12, batch_sequences=4096)
    whole = plan(site, work, TODAY, tries=False).answer["days"].mid
    for part in (1, 2, 4, 8):
        named = work.model_copy(update={"accelerators": site.accelerators // part})
        try:
            assert whole <= plan(site, named, TODAY, tries=False).answer["days"].mid * (1 + 1e-9)
        except Unsupported:
            continue


def test_where_all_would_make_no_progress_fewer_do() -> None:
    sick = with_part(load_site("superpod-h100-127"), "operations", node_failures_per_day=3.0)
    work = Training(model="Llama-3.1-8B", tokens=1e10)
    found = plan(sick, work, TODAY, tries=False)
    assert found.layout is not None and found.layout.accelerators < 200
    with pytest.raises(Unsupported, match="makes no progress"):
        plan(sick, work.model_copy(update={"accelerators": 512}), TODAY)


def test_a_batch_that_cannot_be_cut_over_all_that_a_job_names_is_refused_with_what_can() -> None:
    campus = load_site("campus-1gw")
    work = Training(model="Llama-3.1-405B", tokens=1e12, batch_sequences=512, accelerators=campus.accelerators)
    with pytest.raises(Unsupported, match="cannot be cut") as caught:
        plan(campus, work, TODAY)
    fewer = int(caught.value.hint.split(", or ")[1].split(" ")[0].replace(",", ""))
    assert plan(campus, work.model_copy(update={"accelerators": fewer}), TODAY, tries=False).layout is not None


def test_a_batch_with_few_micro_batches_for_its_pipeline_warns() -> None:
    pod = load_site("superpod-h100-127")
    cut = Layout(tensor=8, pipeline=14, data=9, micro_batch=1)
    few, many = (
        plan(pod, Training(model="Llama-3.1-405B", tokens=1e11, batch_sequences=n, layout=cut), TODAY, tries=False)
        for n in (90, 9000)
    )
    assert any("10 micro-batches" in warning for warning in few.warnings)
    assert not any("micro-batches" in warning for warning in many.warnings)


@pytest.mark.parametrize(
    ("part", "values", "helps"),
    [
        ("operations", {"node_failures_per_day": 1000.0}, "fewer failures"),
        ("operations", {"node_failures_per_day": 20.0}, "fewer failures"),
        ("operations", {"restart_seconds": 1e9}, "quicker restarts"),
        ("operations", {"repair_seconds": 1e9}, "quicker repairs"),
        ("storage", {"write_bytes_per_second": 1.0}, "faster storage"),
        ("storage", {"read_bytes_per_second": 1.0}, "faster storage"),
        ("storage", {"write_bytes_per_second": 1e6}, "faster storage"),
    ],
)
def test_a_job_that_makes_no_progress_is_refused_with_what_would_help(
    part: str, values: dict[str, float], helps: str
) -> None:
    pod, work = load_site("superpod-h100-127"), Training(model="Llama-3.1-70B", tokens=1e11, accelerators=992)
    with pytest.raises(Unsupported, match="makes no progress") as caught:
        plan(with_part(pod, part, **values), work, TODAY)
    assert helps in caught.value.hint


def test_a_job_that_may_make_none_warns() -> None:
    pod, work = load_site("superpod-h100-127"), Training(model="Llama-3.1-70B", tokens=1e11, accelerators=992)
    sick = with_part(pod, "operations", node_failures_per_day=0.1)
    assert any("one in ten such jobs" in warning for warning in plan(sick, work, TODAY, tries=False).warnings)
    assert not any("one in ten" in warning for warning in plan(pod, work, TODAY, tries=False).warnings)


def test_the_same_question_has_the_same_answer(small: Site) -> None:
    work = Training(model="Llama-3.1-8B", tokens=1e9)
    assert plan(small, work, TODAY) == plan(small, work, TODAY)


def test_renting_says_from_whom_and_at_what_price(small: Site) -> None:
    names = [name for name, _ in of_site(small)]
    (told,) = [name for name in names if name.startswith("rented")]
    assert "USD/h" in told and ("no quote" in told) == ("from" not in told)
    assert "market model" not in " ".join(names)
    cheapest = min(price for price, name in asked(small))
    assert f"{cheapest:.2f}" in told


def asked(site: Site) -> list[tuple[float, str]]:
    name = site.nodes[0].accelerator
    return [(offer(name, each.provider).usd_per_hour, each.provider) for each in offers(name) if each.term != "spot"]


def test_only_who_rents_all_of_a_site_is_named() -> None:
    site = load_site("azure-region")
    for name, rented_site in of_site(site):
        if name.startswith("rented"):
            assert all(offer(nodes.accelerator, rented_site.money.provider) for nodes in site.nodes)


def test_without_trying_there_are_no_changes_and_the_same_figures(small: Site) -> None:
    for work in (Training(tokens=1e9), Serving()):
        full, bare = plan(small, work, TODAY), plan(small, work, TODAY, tries=False)
        assert bare.changes == () and full.changes
        assert bare.answer == full.answer
        assert full.bottleneck in full.limit


def test_a_power_cap_slows_computing_and_hardly_the_reading_of_memory(small: Site) -> None:
    capped = with_part(small, "power", cap_watts=400.0)
    work = Training(model="Llama-3.1-8B", tokens=1e9)
    free, slow = (plan(site, work, TODAY).answer for site in (small, capped))
    assert slow["step_seconds"].mid > free["step_seconds"].mid * 1.05
    assert slow["step_seconds"].mid < free["step_seconds"].mid / capped_ratio(capped) * 1.01
    assert slow["energy_kwh"].mid < free["energy_kwh"].mid
    talk = Serving(model="Llama-3.1-70B", input_tokens=100, output_tokens=500, time_per_output_token_seconds=0.02)
    before, after = (plan(site, talk, TODAY).answer["tokens_per_second"].mid for site in (small, capped))
    assert before * capped_ratio(capped) < after <= before
    with pytest.raises(ConfigError, match="no more than an idle"):
        plan(with_part(small, "power", cap_watts=10.0), work, TODAY)


@pytest.mark.parametrize(("model", "precision", "tokens", "nodes"), [("DeepSeek-V3", "fp8", 32_000, 2)])
def test_a_replica_is_no_larger_than_the_site(model: str, precision: str, tokens: int, nodes: int) -> None:
    site = servers(nodes)
    work = Serving(model=model, precision=precision, input_tokens=tokens, output_tokens=2000)
    assert plan(site, work, TODAY).answer["accelerators_per_replica"].mid <= 8 * nodes


def test_kinds_of_accelerators_are_not_mixed() -> None:
    region = load_site("azure-region")
    first = next(nodes for nodes in region.nodes if nodes.device.name.startswith("H100"))
    there = first.count * first.accelerators
    assert there < region.accelerators
    with pytest.raises(Unsupported, match=f"{there:,} H100"):
        plan(region, Training(model="Llama-3.1-8B", accelerators=there + 8, batch_sequences=65536), TODAY)


@pytest.mark.parametrize(
    ("part", "line"),
    [("power", "ups_efficiency = 0"), ("power", "supply_efficiency = 0.0"), ("operations", "straggler_ratio = 1.0")],
)
def test_what_no_site_has_is_refused(part: str, line: str, tmp_path: Path) -> None:
    file = tmp_path / "odd.toml"
    file.write_text(f'name = "odd"\n[{part}]\n{line}\n', "utf-8")
    with pytest.raises(ConfigError, match=line.split(" ", maxsplit=1)[0]):
        load_site(str(file))


def test_a_site_that_is_no_text_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="no UTF-8"):
        load_site(str(tmp_path / "odd.toml"))


@pytest.mark.parametrize(
    "words",
    [
        ["plan", "--site", "dgx-h100", "--model", "Llama-3.1-8B", "--tokens", "inf"],
        ["simulate", "--site", "dgx-h100", "--seed", "-1"],
        ["simulate", "--site", "dgx-h100", "--days", "1e9"],
    ],
)
def test_numbers_without_an_end_are_refused(words: list[str]) -> None:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2 and "Traceback" not in done.output


def test_prefill_of_its_own_is_a_pool_of_whole_accelerators() -> None:
    site, work = load_site("gb200-nvl72"), Serving(model="DeepSeek-V3", precision="fp8", disaggregated=True)
    found = plan(site, work.model_copy(update={"requests_per_second": 20.0}), TODAY, tries=False)
    decoding, rest = found.notes["accelerators_per_replica"].split(" decode; ")
    pool, each = int(rest.split()[-3]), found.answer["accelerators_per_replica"].mid
    beside = (each - int(decoding)) * found.answer["replicas"].mid
    assert 0 <= pool - beside < 1
    assert "accelerators_per_replica" not in plan(site, Serving(), TODAY, tries=False).notes


def test_a_step_ends_no_sooner_than_its_data_are_read() -> None:
    pod, text = load_site("superpod-h100-127"), Training(model="Llama-3.1-8B", tokens=1e11, accelerators=512)
    heavy = text.model_copy(update={"bytes_per_token": 1e6})
    slow = with_part(pod, "storage", read_bytes_per_second=1e11)
    plain, held = plan(slow, text, TODAY, tries=False), plan(slow, heavy, TODAY)
    read = text.batch_sequences * text.sequence_tokens * 1e6 / 1e11
    assert plain.shares["waiting for data from storage"] == 0
    assert held.answer["step_seconds"].mid == pytest.approx(read) and read > 2 * plain.answer["step_seconds"].mid
    assert held.bottleneck == "waiting for data from storage" and sum(held.shares.values()) == pytest.approx(1)
    assert held.answer["mfu_ratio"].mid < plain.answer["mfu_ratio"].mid / 2
    each = held.answer["read_bytes_per_second_per_accelerator"]
    assert each.mid == pytest.approx(held.answer["tokens_per_second"].mid * 1e6 / 512) and each.mid * 512 < 1e11
    assert any("reads four times as fast" in change.name for change in held.changes)


@pytest.mark.parametrize(
    ("given", "batch"),
    [
        ({"model": "Llama-3.1-405B", "tokens": 15.6e12, "sequence_tokens": 8192}, 2048),  # 16 million tokens a step
        ({"model": "Llama-3.1-405B", "tokens": "15.6e12"}, 4096),  # as YAML reads a number without a sign
        ({"model": "Llama-3.1-8B", "tokens": 1e9}, 512),
        ({"model": "Llama-3.1-405B", "tokens": 15.6e12, "batch_sequences": 64}, 64),
        ({"model": "Llama-3.1-405B", "tokens": 15.6e12, "method": "lora"}, 512),
        ({"model": "Llama-3.1-405B", "tokens": 15.6e12, "layout": Layout()}, 512),
        ({"model": "nothing of the catalogue"}, 512),
    ],
)
def test_a_pre_training_without_a_batch_gets_what_is_usual_for_its_compute(
    given: dict[str, object], batch: int
) -> None:
    assert Training.model_validate(given).batch_sequences == batch
    assert Training.model_validate(given | {"tokens": 1e9, "batch_sequences": 7}).batch_sequences == 7
