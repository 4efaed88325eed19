"""Parameters of the stamped routes."""

import re
from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from ..types import INT64


def _digits(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch("-?[0-9]{1,19}", value):
        raise PydanticCustomError("int_parsing", "")  # pydantic takes " 1", "1_0" and "1.0" too
    return value


RowId = Annotated[
    int, Path(alias="id", ge=1, le=INT64, description="The row's id."), BeforeValidator(_digits)
]

PageSize = Annotated[int, Query(ge=1, le=200, description="Rows of a page."), BeforeValidator(_digits)]

Cursor = Annotated[
    int,
    Query(ge=0, le=INT64, description="Begin after this id: the `next` of the page before."),
    BeforeValidator(_digits),
]
