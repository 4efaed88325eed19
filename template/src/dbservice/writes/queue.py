"""The queue of the write pool: jobs that wait for a thread. Whoever takes a job out owns it."""

import contextlib
import queue
from collections import deque
from typing import Generic, TypeVar

J = TypeVar("J")


class JobQueue(Generic[J]):
    """Put to and withdrawn from by the event loop, taken from by the threads.

    In order, unless `newest_first` is set: under overload the oldest jobs belong to the clients that are about to give up,
    and in order every job would be served as late as that."""

    def __init__(self) -> None:
        self.newest_first = False
        self._jobs: deque[J] = deque()
        self._wake: queue.SimpleQueue[bool] = (
            queue.SimpleQueue()
        )  # one True for each job, one False for each stop

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, job: J) -> None:
        """Add a job."""
        self._jobs.append(job)
        self._wake.put(True)

    def withdraw(self, job: J) -> bool:
        """Take this job out; False if a thread has taken it."""
        try:
            self._jobs.remove(job)
        except ValueError:
            return False
        self._let_sleep()
        return True

    def withdraw_oldest(self) -> J | None:
        """Take the oldest job out; None if the threads have taken all."""
        try:
            job = self._jobs.popleft()
        except IndexError:
            return None
        self._let_sleep()
        return job

    def take(self) -> J | None:
        """Wait for a job and take it out; None when the queue has been stopped and is empty."""
        while self._wake.get():
            with contextlib.suppress(IndexError):  # withdrawn
                return self._jobs.pop() if self.newest_first else self._jobs.popleft()
        return None

    def stop(self, threads: int) -> None:
        """Let so many threads get None, after the last job."""
        for _ in range(threads):
            self._wake.put(False)

    def _let_sleep(self) -> None:
        with contextlib.suppress(queue.Empty):  # a thread is waking up for the job, and will find none
            if not self._wake.get_nowait():
                self._wake.put(False)
