"""Costs as FOCUS 1.2 rows, the FinOps Foundation's open form of bills, one for each day, key, model and kind of token.

Columns that FOCUS requires and that mean nothing here (regions, commitments, capacity) are empty. The price is for
one token, or one ranked item or accepted row. Own columns begin with ``x_``.

Owns the columns. Source: FOCUS specification 1.2, columns and their allowed values (focus.finops.org).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal

from bessemer.core.errors import ConfigError, MissingDependency
from bessemer.core.usage import CostLine

DAY = 86_400
_MILLION = Decimal(1_000_000)

COLUMNS = (
    *("AvailabilityZone", "BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType"),
    *("BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart", "CapacityReservationId"),
    *("CapacityReservationStatus", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency"),
    *("ChargePeriodEnd", "ChargePeriodStart", "CommitmentDiscountCategory", "CommitmentDiscountId"),
    *("CommitmentDiscountName", "CommitmentDiscountQuantity", "CommitmentDiscountStatus", "CommitmentDiscountType"),
    *("CommitmentDiscountUnit", "ConsumedQuantity", "ConsumedUnit", "ContractedCost", "ContractedUnitPrice"),
    *("EffectiveCost", "InvoiceId", "InvoiceIssuerName", "ListCost", "ListUnitPrice", "PricingCategory"),
    *("PricingCurrency", "PricingCurrencyContractedUnitPrice", "PricingCurrencyEffectiveCost"),
    *("PricingCurrencyListUnitPrice", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "RegionId"),
    *("RegionName", "ResourceId", "ResourceName", "ResourceType", "ServiceCategory", "ServiceName"),
    *("ServiceSubcategory", "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId", "SubAccountId", "SubAccountName"),
    *("SubAccountType", "Tags", "x_KeyId", "x_PriceVersion", "x_ServiceTier"),
)


@dataclass(frozen=True, slots=True)
class Bill:
    """Whose costs they are, and which month they belong to.

    Attributes:
        seller: the factory's name, which provides, publishes and issues.
        start: of the billing period, Unix seconds.
        end: of the billing period; not part of it.
        invoice: its number; empty while there is none.
    """

    seller: str
    start: int
    end: int
    invoice: str = ""


def focus_rows(lines: Sequence[CostLine], bill: Bill) -> list[dict[str, str]]:
    """Return a row for each line, every column a text, empty where there is nothing to say."""
    return [{name: _row(line, bill).get(name, "") for name in COLUMNS} for line in lines]


def write_focus(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write rows as CSV or Parquet, whole, by the file's ending.

    Raises:
        ConfigError: it ends otherwise, or cannot be written.
        MissingDependency: Parquet needs pyarrow.
    """
    waiting = path.with_name(f".{path.name}.part")
    try:
        if path.suffix == ".csv":
            with waiting.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(rows)
        elif path.suffix == ".parquet":
            _write_parquet(waiting, rows)
        else:
            raise ConfigError(f"'{path}' is neither .csv nor .parquet", hint="FOCUS is written as one of these.")
        waiting.replace(path)
    except OSError as error:
        waiting.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written: {error.strerror}", hint="Name another file.") from error


def _write_parquet(path: Path, rows: Sequence[dict[str, str]]) -> None:
    try:
        from bessemer.lake.parquet import write_parquet
    except ImportError as error:
        raise MissingDependency("pyarrow", extra="lake") from error
    write_parquet(path, {name: (_kind(name), [_typed(name, row[name]) for row in rows]) for name in COLUMNS})


def _kind(name: str) -> Literal["text", "decimal", "time"]:
    if name in ("BillingPeriodEnd", "BillingPeriodStart", "ChargePeriodEnd", "ChargePeriodStart"):
        return "time"
    number = name.endswith(("Cost", "UnitPrice", "Quantity")) and not name.startswith("x_")
    return "decimal" if number else "text"


def _typed(name: str, text: str) -> object:
    if not text:
        return None
    kind = _kind(name)
    return datetime.fromisoformat(text) if kind == "time" else Decimal(text) if kind == "decimal" else text


def _row(line: CostLine, bill: Bill) -> dict[str, str]:
    amount = _decimal(Decimal(line.amount_micros) / _MILLION)
    kind = "batch" if line.batch else line.service_tier or "standard"
    sku = f"{line.model}/{line.item}/{kind}"
    return {
        **_whose(line, bill),
        **dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), amount),
        "PricingCurrencyEffectiveCost": amount,
        "ChargeDescription": f"{line.model}: {line.item}, {kind}",
        "ResourceId": line.model,
        "ResourceName": line.model,
        "ResourceType": "Model",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Inference" if line.item != "training" else "Fine-tuning",
        "ServiceSubcategory": "Generative AI",
        "SkuId": sku,
        "SkuMeter": line.item,
        "SkuPriceId": f"{sku}@{line.price_version}",
        "x_KeyId": line.key_id,
        "x_PriceVersion": line.price_version,
        "x_ServiceTier": line.service_tier,
        **_metered(line),
    }


def _whose(line: CostLine, bill: Bill) -> dict[str, str]:
    return {
        "BillingAccountId": bill.seller,
        "BillingAccountName": bill.seller,
        "BillingAccountType": "Factory",
        "BillingCurrency": line.currency,
        "PricingCurrency": line.currency,
        "BillingPeriodStart": _time(bill.start),
        "BillingPeriodEnd": _time(bill.end),
        "ChargePeriodStart": _time(line.start),
        "ChargePeriodEnd": _time(line.start + DAY),
        "InvoiceId": bill.invoice,
        **dict.fromkeys(("InvoiceIssuerName", "ProviderName", "PublisherName"), bill.seller),
        "SubAccountId": line.project,
        "SubAccountName": line.project,
        "SubAccountType": "Project",
    }


def _metered(line: CostLine) -> dict[str, str]:
    """Return quantity and price; where no meter ran, the amount is all that there is."""
    if line.unit_micros is None:
        return {"ChargeCategory": "Adjustment", "ChargeFrequency": "One-Time"}
    price = _decimal(Decimal(line.unit_micros) / _MILLION / _MILLION)
    prices = ("ContractedUnitPrice", "ListUnitPrice")
    return {
        "ChargeCategory": "Usage",
        "ChargeFrequency": "Usage-Based",
        "PricingCategory": "Standard",
        **dict.fromkeys(("ConsumedQuantity", "PricingQuantity"), f"{line.quantity}.0"),
        **dict.fromkeys(("ConsumedUnit", "PricingUnit"), "Units" if line.item == "units" else "Tokens"),
        **dict.fromkeys((*prices, *(f"PricingCurrency{name}" for name in prices)), price),
    }


def _decimal(value: Decimal) -> str:
    return f"{value:f}"


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
