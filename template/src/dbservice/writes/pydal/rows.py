"""PyDAL's rows, which keep their values as they are."""

from typing import Any

from pydal.helpers.classes import RecordOperator, RecordUpdater
from pydal.objects import LazySet, Row, Rows


class RecordUpdate(RecordUpdater):  # type: ignore[misc]
    """`row.update_record(...)`, which by itself drops an unknown name without a word."""

    def __call__(self, **values: Any) -> Any:
        table = self.db[self.tablename]
        table._refuse(values.keys() - set(table.fields))
        return super().__call__(**values)


class ValueRow(Row):  # type: ignore[misc]
    """A row whose values stay as they are: PyDAL's makes floats of decimals and drops what JSON has no type for."""

    def as_dict(self, datetime_to_str: bool = False, custom_types: Any = None) -> dict[str, Any]:
        """The values by field; of a join by table and field, of an expression under `_extra`."""
        if datetime_to_str:
            raise TypeError(_LOSSY)
        return {
            name: value.as_dict() if isinstance(value, Row) else value
            for name, value in self.items()
            if not isinstance(value, RecordOperator | LazySet)
        }

    def as_json(self, *_: Any, **__: Any) -> str:
        raise TypeError(_LOSSY)

    as_xml = as_json


class ValueRows(Rows):  # type: ignore[misc]
    def as_json(self, *_: Any, **__: Any) -> str:
        raise TypeError(_LOSSY)

    as_xml = as_csv = xml = export_to_csv_file = as_json
    __str__ = Rows.__repr__


_LOSSY = "PyDAL's own text alters decimals and times: answer a Row of the service"
