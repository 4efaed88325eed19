"""The accounts, which an administrator makes with `deploy/sql/accounts.sql`."""

from dbservice.testing import accounts_file_is_current


def test_the_accounts_file_is_current() -> None:
    accounts_file_is_current()
