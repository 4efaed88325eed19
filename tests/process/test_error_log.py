"""A failure is logged where a developer looks, without values."""

from pathlib import Path

from dbservice.backends import backend_for
from dbservice.testing.servers import Server

from ..faults import until
from ..sample_service import sample_database
from .service_process import Process, environ_of

TELLTALE = {
    "postgresql": (
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no %', NEW.password; END $$",
        "CREATE TRIGGER telltale BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION tell()",
    ),
    "mysql": (
        "CREATE TRIGGER telltale BEFORE INSERT ON users FOR EACH ROW BEGIN SET @words = CONCAT('no ', NEW.password);"
        " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = @words; END",
    ),
}
"""A database whose errors hold values."""


async def test_a_failure_of_the_service_is_logged_without_values(server: Server, tmp_path: Path) -> None:
    with sample_database(server) as settings, Process(tmp_path, environ_of(settings)) as process:
        async with process.client() as client:
            await process.becomes(200, client)
            connection = backend_for(settings).connect()
            for statement in TELLTALE[server.type]:
                connection.cursor().execute(statement)
            body = {"email": "hush@example.com", "password": "hush-hush"}
            answers = [await client.post("/v1/users", json=body)]
            connection.cursor().execute("ALTER TABLE users DROP COLUMN updated_at")
            connection.close()
            answers += [await client.post("/v1/users", json=body), await client.get("/v1/users")]
            assert [answer.status_code for answer in answers] == [500, 500, 500]
            await until(lambda: sum("Traceback" in line for line in process.said()) >= 3)
            assert not any("hush" in text for text in (*process.said(), *(answer.text for answer in answers)))
            assert (await client.get("/v1/order")).status_code == 200
