"""PyDAL's rows, with unaltered values."""

from typing import Any

from pydal.helpers.classes import RecordOperator, RecordUpdater
from pydal.objects import LazySet, Row, Rows


class StrictRecordUpdater(RecordUpdater):  # type: ignore[misc]
    """`row.update_record(...)`; PyDAL's silently drops an unknown name."""

    def __call__(self, **values: Any) -> Any:
        table = self.db[self.tablename]
        table._refuse_unknown(values.keys() - set(table.fields))
        return super().__call__(**values)


class ExactRow(Row):  # type: ignore[misc]
    """A row with unaltered values: PyDAL's as_dict() converts decimals to floats and drops bytes and UUIDs."""

    def as_dict(self, datetime_to_str: bool = False, custom_types: Any = None) -> dict[str, Any]:
        """The values by field; of a join by table and field; of expressions under `_extra`."""
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


class ExactRows(Rows):  # type: ignore[misc]
    """Rows with unaltered values."""

    def as_json(self, *_: Any, **__: Any) -> str:
        raise TypeError(_LOSSY)

    as_xml = as_csv = xml = export_to_csv_file = as_json  # pyright: ignore[reportAssignmentType]
    __str__ = Rows.__repr__


_LOSSY = "PyDAL's text formats alter decimals and times: return a Row of the service"
