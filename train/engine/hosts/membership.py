"""How hosts join, stay in touch and leave, and how the others end when one is lost."""

import ctypes
import os
import platform
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import jax
from jax._src import distributed  # the store of keys has no public name

from train import terminal
from train.engine.hosts.arrays import is_writer
from train.options.hosts import parse_hosts

JOIN_SECONDS = 300  # that hosts wait for one another to join
BEAT_SECONDS = 1.0  # between two signs of life
SILENCE_SECONDS = 20.0  # without a sign of life, after which a host counts as lost
JAX_SILENCE_SECONDS = 56  # likewise for JAX, which ends a process less kindly; it counts from up to half of it before
PATIENCE_SECONDS = 10.0  # between the ends of hosts that fail for the same reason
PREPARE_SECONDS = 3600  # by which one host may read and tokenise longer than another


class Watch:
    """Gives signs of life, and ends this process if another host gives none or has failed.

    A device that waits for a lost host may wait for ever, and nothing can interrupt it; hence the thread.
    """

    def __init__(self, store: Any) -> None:
        self._store, self._host, self._count = store, jax.process_index(), jax.process_count()
        self._names = self.exchange("name", platform.node())
        # The last sign of life, and when it came.
        self._heard: dict[int, tuple[str, float]] = dict.fromkeys(range(self._count), ("", time.monotonic()))
        self._failing: dict[int, float] = {}  # since when
        self._leaving = threading.Event()
        self.answered = time.monotonic()  # when the store last replied
        self._thread = threading.Thread(target=self._keep_watch, daemon=True)
        self._thread.start()

    def name(self, host: int) -> str:
        return f"host {host} ({self._names[host]})"

    def exchange(self, what: str, text: str) -> list[str]:
        """Shares a text, waits for those of all hosts, and returns them in the hosts' order."""
        self._store.key_value_set(f"{what}/{self._host}", text)
        patience = 1000 * PREPARE_SECONDS
        return [self._store.blocking_key_value_get(f"{what}/{host}", patience) for host in range(self._count)]

    def _keep_watch(self) -> None:
        beats = 0
        while not self._leaving.wait(BEAT_SECONDS):
            beats += 1
            try:
                self._store.key_value_set(f"beat/{self._host}", str(beats), allow_overwrite=True)
                told, ended = self._reported("beat"), self._ended()
            except jax.errors.JaxRuntimeError:
                continue  # host 0 is gone; jax is about to end this process, and `_aborted` says so
            self._check_others(told, ended)

    def _check_others(self, told: dict[int, str], ended: dict[int, tuple[int, bool]]) -> None:
        self.answered = now = time.monotonic()
        for host, beat in told.items():
            if beat != self._heard[host][0]:
                self._heard[host] = beat, now
        for host, (code, _) in ended.items():
            if code and host != self._host:
                self._failing.setdefault(host, now)
        for host in range(self._count):
            if host not in ended and now - self._heard[host][1] > SILENCE_SECONDS:
                self._end(f"{self.name(host)} is lost, without a sign of life for {SILENCE_SECONDS:.0f} s", 1)
            elif now - self._failing.get(host, now) > PATIENCE_SECONDS and not ended.get(self._host, (0, True))[0]:
                self._end(f"{self.name(host)} has ended with exit code {ended[host][0]} and prints why", ended[host][0])

    def _reported(self, what: str) -> dict[int, str]:
        """Returns what hosts have reported: host -> text."""
        return {int(key.rpartition("/")[2]): text for key, text in self._store.key_value_dir_get(f"{what}/")}

    def _ended(self) -> dict[int, tuple[int, bool]]:
        """Returns the exit code of each host that has ended, and whether it waits for the others."""
        return {host: (int(text.split()[0]), "waits" in text) for host, text in self._reported("ended").items()}

    def _end(self, line: str, code: int) -> NoReturn:
        self._store.key_value_set(f"ended/{self._host}", f"{code}", allow_overwrite=True)
        _say_last(f"{line}; the same command continues from the last checkpoint")
        self._end_process(code)

    def _end_process(self, code: int) -> NoReturn:
        """Ends the process at once; host 0 ends after the others, which need its store."""
        sys.stdout.flush()
        sys.stderr.flush()
        if self._host == 0:
            time.sleep(3 * BEAT_SECONDS)
        os._exit(code)

    def wait_for_the_lost(self) -> None:
        """Returns if all hosts give signs of life; otherwise this process ends with a line that names the lost one."""
        time.sleep(5 * BEAT_SECONDS)
        while self._longest_silence() > 4 * BEAT_SECONDS:
            time.sleep(BEAT_SECONDS)

    def _longest_silence(self) -> float:
        ended = self._ended()
        silences = (time.monotonic() - since for host, (_, since) in self._heard.items() if host not in ended)
        return max(silences, default=0.0)

    def leave(self, code: int) -> None:
        """Waits for the other hosts to end, unless this one has failed and they go on, and disconnects."""
        self._store.key_value_set(f"ended/{self._host}", f"{code} waits")
        begun = time.monotonic()
        while len(self._ended()) < self._count:
            time.sleep(BEAT_SECONDS / 10)
            if code and time.monotonic() - begun > PATIENCE_SECONDS + 5 * BEAT_SECONDS:
                self.wait_for_the_lost()
                self._end_process(code)
        if not all(waits for _, waits in self._ended().values()):
            self._end_process(code)
        self._leaving.set()
        self._thread.join()
        jax.distributed.shutdown()


_watch: Watch | None = None


def current() -> Watch | None:
    """Returns the watch over the hosts of this run; None for a run without `--hosts`."""
    return _watch


def carry_out(hosts: str, run: Callable[[], int]) -> int:
    """Joins the other hosts, carries out a run, leaves them, and returns the exit code.

    If a host is lost or fails alone, the others end with a line that names it.

    Args:
      hosts: the value of `--hosts`.

    Raises:
      ValueError: the hosts cannot be joined.
    """
    _join(hosts)
    if not is_writer():
        terminal.console.quiet = True
    watch = _watch
    assert watch is not None
    try:
        code = run()
    except BaseException:
        watch.wait_for_the_lost()
        traceback.print_exc()
        code = 1
    watch.leave(code)
    return code


def _join(hosts: str) -> None:
    global _watch
    place, kinds = parse_hosts(hosts), {}
    if place is not None:
        kinds = {"coordinator_address": place.coordinator, "num_processes": place.count, "process_id": place.index}
        kinds |= {"cluster_detection_method": "deactivate"}  # else Slurm would give each process one device
    # JAX's own handler of SIGTERM would replace ours, and does not handle SIGINT.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    ctypes.CDLL(None).signal(signal.SIGABRT, _aborted)
    kinds |= {"initialization_timeout": JOIN_SECONDS, "heartbeat_timeout_seconds": JAX_SILENCE_SECONDS}
    failed: list[Exception] = []

    def initialize() -> None:
        try:
            jax.distributed.initialize(**kinds)
        except (ValueError, RuntimeError) as error:
            failed.append(error)

    # On another thread, since a signal could not interrupt it.
    waiting = threading.Thread(target=initialize, daemon=True)
    waiting.start()
    try:
        while waiting.is_alive():
            waiting.join(BEAT_SECONDS / 10)
    except KeyboardInterrupt:
        _say_last("stopped before all hosts had joined; the same command starts or continues the run")
        os._exit(130)
    if failed:
        needed = "COORDINATOR:PORT,COUNT,INDEX without a scheduler" if place is None else "a free port"
        raise ValueError(f"hosts is {hosts!r}, which fails ({failed[0]}); accepted: {needed}")
    _watch = Watch(distributed.global_state.client)


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _aborted(number: int) -> None:
    """Prints why JAX ends this process, which it does by abort(): its callbacks for that do not work in 0.10.

    Runs within abort(), on whatever thread called it; an abort for another reason proceeds.
    """
    if _watch is None:
        coordinator = distributed.global_state.coordinator_address
        _say_last(f"not all hosts have joined {coordinator} within {JOIN_SECONDS} s; accepted: one for each index")
    elif not is_writer() and not _store_responds(_watch):
        _say_last(f"{_watch.name(0)} is lost; the same command continues from the last checkpoint")
    else:
        ctypes.CDLL(None).signal(signal.SIGABRT, None)
        return
    os._exit(1)


def _store_responds(watch: Watch) -> bool:
    host, _, port = str(distributed.global_state.coordinator_address).rpartition(":")
    if time.monotonic() - watch.answered > SILENCE_SECONDS / 2:
        return False
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def _say_last(line: str) -> None:
    """Prints a line on the terminal itself, below the live line if there is one."""
    if terminal.console.is_terminal:
        terminal.console.show_cursor()
        print(file=sys.__stderr__)
    print(f"train: {line}", file=sys.__stderr__, flush=True)
