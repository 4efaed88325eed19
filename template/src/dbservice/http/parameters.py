"""Types of the parameters that routes take: `row_id: RowId`, `limit: PageSize`, `after: Cursor`."""

import re
from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from ..types import INT64

MAX_PAGE_SIZE = 200


def whole_number(value: Any) -> Any:
    """A validator in front of `int`, which takes " 1", "1_0" and "1.0" too. Raises PydanticCustomError."""
    if isinstance(value, str) and not re.fullmatch("-?[0-9]{1,19}", value):
        raise PydanticCustomError("int_parsing", "")
    return value


RowId = Annotated[
    int, Path(alias="id", ge=1, le=INT64, description="The row's id."), BeforeValidator(whole_number)
]

PageSize = Annotated[
    int,
    Query(ge=1, le=MAX_PAGE_SIZE, description="The number of rows of a page."),
    BeforeValidator(whole_number),
]
"""A route with other pages writes its own: `limit: Annotated[int, Query(ge=1, le=1000)]`."""

Cursor = Annotated[
    int,
    Query(ge=0, le=INT64, description="Start after this id: the `next` of the previous page."),
    BeforeValidator(whole_number),
]
