"""What a query may compute: only what every engine computes alike."""

from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from dbservice import Row, query

from ..sample_service import values


class Answer(Row):
    """A row of one computed value."""

    value: Any


def test_a_query_computes_only_what_every_engine_computes_alike() -> None:
    c, f = values.c, sa.func

    def asked(expression: Any) -> Any:
        return query(Answer, sa.select(expression.label("value")))

    for expression, sentence in (
        (f.avg(c.decimal), r"avg\(\) of Numeric\(12, 2\): the engines do not"),
        (f.abs(c.decimal), r"abs\(\) of Numeric"),
        (f.round(c.long_decimal, 1), "the engines do not"),
        (f.max(f.nullif(c.decimal, c.decimal)), r"nullif\(\) of Numeric"),
        (sa.cast(c.decimal, sa.Integer()), r"CAST of Numeric"),
        (sa.extract("year", c.timestamp), r"EXTRACT of Timestamp"),
        (c.decimal * 2, "differs between the engines"),
        (c.decimal + c.decimal, "differs between the engines"),
        (2 * c.decimal, "differs between the engines"),
        (c.decimal / 2, "differs between the engines"),
        (-c.long_decimal, "differs between the engines"),
        (c.timestamp - c.timestamp, "differs between the engines"),
        (c.date + 1, "differs between the engines"),
        (c.integer + c.decimal, "differs between the engines"),
        (c.float * c.decimal, "differs between the engines"),
        (c.decimal == c.whole_decimal, "do not compare"),
        (c.decimal > c.integer, "do not compare"),
        (c.integer == c.decimal, "do not compare"),
        (c.integer.between(c.decimal, c.decimal), "do not compare"),
        (c.decimal.in_(sa.select(c.integer)), "do not compare"),
        (c.timestamp == c.date, "do not compare"),
        (c.string == c.integer, "do not compare"),
        (c.binary == c.string, "do not compare"),
        (c.json == c.json, "do not compare JSON"),
        (f.max(c.boolean), r"max\(\) of Boolean"),
        (f.min(c.uuid), r"min\(\) of Uuid"),
        (f.sum(c.string), r"sum\(\) of String"),
        (f.substr(c.string, 0), r"substr\(\) of String"),
        (sa.literal(Decimal(1)), "has no type of its own here"),
        (c.created_at < f.now(), "do not compare"),
        (f.coalesce(c.decimal, 1), r"COALESCE mixes .*Numeric\(12, 2\).*: give a value its type"),
        (f.coalesce(c.decimal, c.long_decimal), "mixes"),
        (sa.case((c.boolean, c.decimal), else_=1), "CASE mixes"),
        (f.avg(c.integer), r"select sum\(\) and count\(\)"),
        (f.length(c.text), r"MySQL counts bytes, use char_length"),
        (f.lower(c.string), "do not fold the same letters"),
        (c.string.ilike("x"), "do not fold the same letters"),
        (c.text.icontains("x"), "do not fold the same letters"),
        (c.integer / 2, "do not divide whole numbers alike"),
        (c.integer // c.bigint, "do not divide whole numbers alike"),
    ):
        with pytest.raises(TypeError, match=sentence):
            asked(expression)
    zero = sa.literal(Decimal(0), c.decimal.type)
    for expression in (
        f.sum(sa.case((c.boolean, c.decimal), else_=zero)),
        f.coalesce(f.sum(c.decimal), zero),
        sa.case((c.boolean, c.decimal), else_=None),
        f.max(c.timestamp),
        f.count(c.json),
        f.avg(c.float),
        f.abs(c.integer),
        f.char_length(c.string),
        f.row_number().over(order_by=c.id),
        c.float / 2,
        c.integer % 2,
        -c.integer,
        c.integer * c.bigint,
        c.string.concat(c.text),
        c.integer > c.float,
        c.decimal > c.decimal,
        c.decimal.is_(None),
        c.boolean.is_(True),
        c.boolean == sa.true(),
        c.timestamp.between(sa.bindparam("x"), sa.bindparam("y")),
        c.decimal.in_([Decimal(1)]),
        c.id.in_(sa.select(c.bigint)),
        c.string.like("x%"),
        c.id == sa.literal(1),
        sa.exists().where(c.id == 1),
        sa.and_(c.boolean, c.integer == 1),
    ):
        assert asked(expression)
    with pytest.raises(TypeError, match="a set operation mixes"):
        query(Answer, sa.union_all(sa.select(c.decimal.label("value")), sa.select(c.whole_decimal)))  # type: ignore[call-overload]
