#!/usr/bin/env python3
"""Compares the misses of `neomm replay` with the replacement policies written here a second time,
from their definitions (docs/replacement.md), on made-up strings of pages and on a piece of a real one.

usage: replay_policies.py NEOMM DIRECTORY [TRACE.lackey.zst]

SPDX-License-Identifier: MIT
"""
import json
import random
import struct
import subprocess
import sys
from collections import deque

WINDOW, COUNT, TICK = 3, 3, 25  # the defaults of policy_window, policy_count, policy_tick


def share(n, percent):
    return max(1, n * percent // 100)


class Memory:
    """Pages in memory with their bits. A policy says how to admit a page and whom to evict."""

    def __init__(self, frames, window=WINDOW, count=COUNT, tick=TICK):
        self.frames, self.window, self.most, self.tick = frames, window, count, tick
        self.used, self.dirty = set(), set()
        self.resident, self.known = set(), set()
        self.misses = self.writes = 0
        self.begin()

    def begin(self):
        pass

    def hit(self, page):
        pass

    def refer(self, page, write):
        if page in self.resident:
            self.hit(page)
        else:
            self.misses += 1
            if len(self.resident) == self.frames:
                victim = self.evict()
                self.resident.remove(victim)
                self.used.discard(victim)
                self.writes += victim in self.dirty
                self.dirty.discard(victim)
            if page not in self.known:
                self.dirty.add(page)
            self.known.add(page)
            self.resident.add(page)
            self.admit(page)
        self.used.add(page)
        if write:
            self.dirty.add(page)

    def test(self, page):
        was = page in self.used
        self.used.discard(page)
        return was


class Fifo(Memory):
    def begin(self):
        self.line = deque()

    def admit(self, page):
        self.line.append(page)

    def evict(self):
        return self.line.popleft()


class Lru(Memory):
    def begin(self):
        self.order = []

    def hit(self, page):
        self.order.remove(page)
        self.order.append(page)

    def admit(self, page):
        self.order.append(page)

    def evict(self):
        return self.order.pop(0)


class Opt(Memory):
    """Belady: the victim is the page whose next use is furthest away. Needs `future`."""

    def begin(self):
        self.now = -1

    def refer(self, page, write):
        self.now += 1
        super().refer(page, write)

    def admit(self, page):
        pass

    def evict(self):
        wait = {page: len(self.future) for page in self.resident}
        for at in range(len(self.future) - 1, self.now, -1):
            if self.future[at] in wait:
                wait[self.future[at]] = at
        return max(wait, key=wait.get)


class Clock(Memory):
    """A circle of places with a hand."""

    def begin(self):
        self.circle, self.hand = [], 0

    def admit(self, page):
        if len(self.circle) < self.frames:
            self.circle.append(page)
        else:
            self.circle[self.hand] = page
            self.hand = (self.hand + 1) % self.frames

    def evict(self):
        while self.spare(self.circle[self.hand]):
            self.hand = (self.hand + 1) % self.frames
        return self.circle[self.hand]

    def spare(self, page):
        return self.test(page)


class Gclock(Clock):
    def begin(self):
        super().begin()
        self.uses = {}

    def admit(self, page):
        super().admit(page)
        self.uses[page] = 0

    def spare(self, page):
        if self.test(page):
            self.uses[page] = min(self.uses[page] + 1, self.most)
            return True
        self.uses[page] -= 1
        return self.uses[page] >= 0


class Wsclock(Clock):
    """Ages in ticks of victims; 4 and more count as 3 from then on."""

    def begin(self):
        super().begin()
        self.last, self.ticks, self.left, self.steps = {}, 0, 0, 0

    def admit(self, page):
        super().admit(page)
        self.last[page] = self.ticks

    def spare(self, page):
        used = self.test(page)
        if used:
            self.last[page] = self.ticks
        age = self.ticks - self.last[page]
        if not used and ((age > 2 and page not in self.dirty) or self.steps >= min(32, self.frames)):
            self.steps = 0
            if self.left == 0:
                self.ticks += 1
                self.left = max(share(self.frames, self.tick), (self.frames + 3) // 4)
            self.left -= 1
            return False
        self.last[page] = max(self.last[page], self.ticks - 3)
        self.steps += 1
        return True


class Ticking(Memory):
    """Each page has a rank and a stamp, when it got the rank; victims by (order(rank), stamp)."""

    def begin(self):
        self.rank, self.stamp, self.stamps, self.entered, self.last = {}, {}, 0, 0, 0

    def place(self, page, rank):
        self.rank[page] = rank
        self.stamps += 1
        self.stamp[page] = self.stamps

    def admit(self, page):
        self.place(page, 0)
        self.entered += 1

    def order(self, rank):
        return rank

    def evict(self):
        if self.entered - self.last >= share(self.frames, self.tick):
            self.last = self.entered
            for page in sorted(self.resident, key=lambda p: (self.rank[p], self.stamp[p])):
                self.place(page, self.at_tick(page, self.test(page)))
        while True:
            page = min(self.resident, key=lambda p: (self.order(self.rank[p]), self.stamp[p]))
            rank = self.at_eviction(page, self.test(page))
            if rank is None:
                return page
            self.place(page, rank)


class Nru(Ticking):
    def at_tick(self, page, used):
        return int(page in self.dirty)

    def at_eviction(self, page, used):
        rank = 2 * (used or self.rank[page] >= 2) + (page in self.dirty)
        return None if rank == self.rank[page] else rank


class Aging(Ticking):
    def at_tick(self, page, used):
        return self.rank[page] // 2 + 8 * used

    def at_eviction(self, page, used):
        return self.rank[page] | 8 if used else None


class Ws(Ticking):
    def order(self, rank):
        return -rank

    def at_tick(self, page, used):
        return 0 if used else min(self.rank[page] + 1, 15)

    def at_eviction(self, page, used):
        return 0 if used else None


class Windowed(Memory):
    """New pages wait in a window, and their first use is forgotten as they leave it."""

    def begin(self):
        self.waiting = deque()
        self.start()

    def admit(self, page):
        self.waiting.append(page)

    def empty_window(self):
        while len(self.waiting) > share(self.frames, self.window):
            page = self.waiting.popleft()
            self.used.discard(page)
            self.join(page)


class Sieve(Windowed):
    def start(self):
        self.line, self.hand = [], None  # the oldest first; the hand is a place in it

    def join(self, page):
        self.line.append(page)

    def evict(self):
        self.empty_window()
        while self.line:
            self.hand = self.hand or 0
            page = self.line[self.hand]
            used = self.test(page)
            if used:
                self.hand += 1
            else:
                del self.line[self.hand]
            if self.hand == len(self.line):
                self.hand = None
            if not used:
                return page
        page = self.waiting.popleft()
        if not self.test(page):
            return page
        self.line.append(page)
        return self.evict()


class S3fifo(Windowed):
    def start(self):
        self.small, self.main, self.ghost, self.uses = deque(), deque(), deque(), {}

    def admit(self, page):
        room = share(len(self.resident) - 1, 90)
        if page in list(self.ghost)[-room:]:
            self.promote(page)
        else:
            super().admit(page)

    def join(self, page):
        self.small.append(page)

    def promote(self, page):
        self.uses[page] = 0
        self.main.append(page)

    def forget(self, page):
        self.ghost = deque(None if p == page else p for p in self.ghost)

    def evict(self):
        while True:
            self.empty_window()
            page = self.step()
            if page is not None:
                return page

    def step(self):
        if len(self.small) > share(self.frames, 10) or not self.main:
            queue = self.small or self.waiting
            page = queue.popleft()
            if self.test(page):
                self.promote(page)
                return None
            self.forget(page)
            self.ghost.append(page)
            return page
        page = self.main.popleft()
        if self.test(page):
            self.uses[page] = min(self.uses[page] + 1, self.most)
        elif self.uses[page] == 0:
            self.forget(page)
            return page
        else:
            self.uses[page] -= 1
        self.main.append(page)
        return None


class Clockpro(Windowed):
    """Cold and hot pages; `gone` has those evicted in their test period, by number."""

    def start(self):
        self.cold, self.hot, self.in_test = deque(), deque(), set()
        self.gone, self.number, self.ghosts, self.want_cold = {}, 0, 0, 0

    def admit(self, page):
        others = len(self.resident) - 1
        number = self.gone.get(page)
        if number is None or self.number - number >= others:
            super().admit(page)
            return
        self.hot.append(page)
        self.want_cold = max(self.want_cold, min(self.want_cold + 1, others))
        self.ghosts = max(self.ghosts - 1, 0)

    def join(self, page):
        self.in_test.add(page)
        self.cold.append(page)

    def evict(self):
        while True:
            self.empty_window()
            page = self.step()
            if page is not None:
                self.bury(page)
                return page

    def step(self):
        if self.hot and (len(self.hot) + self.want_cold >= self.frames or not self.cold):
            page = self.hot.popleft()
            (self.hot if self.test(page) else self.cold).append(page)
            return None
        page = (self.cold or self.waiting).popleft()
        if not self.test(page):
            return page
        if page in self.in_test:
            self.in_test.remove(page)
            self.hot.append(page)
            self.want_cold = min(self.want_cold + 1, self.frames)
        else:
            self.in_test.add(page)
            self.cold.append(page)
        return None

    def bury(self, page):
        self.gone.pop(page, None)
        if page not in self.in_test:
            return
        self.in_test.remove(page)
        self.number += 1
        self.gone[page] = self.number
        if self.ghosts < self.frames:
            self.ghosts += 1
        else:
            self.want_cold = max(self.want_cold - 1, 0)


class Generations(Ticking):
    """The rank is the number of the generation."""

    def begin(self):
        super().begin()
        self.youngest = 0

    def admit(self, page):
        self.place(page, self.youngest)
        self.entered += 1

    def walk_if_due(self):
        oldest = min(self.rank[page] for page in self.resident)
        due = self.entered - self.last >= share(self.frames, self.tick)
        if oldest == self.youngest or (self.youngest - oldest < 3 and due):
            self.youngest += 1
            self.last = self.entered
            # (Queues are swept by number modulo 4.)
            for page in sorted(self.resident, key=lambda p: (self.rank[p] % 4, self.stamp[p])):
                self.place(page, self.youngest if self.test(page) else self.rank[page])

    def evict(self):
        while True:
            self.walk_if_due()
            page = min(self.resident, key=lambda p: (self.rank[p], self.stamp[p]))
            if not self.test(page):
                return page
            self.place(page, self.youngest)


class Adaptive(Windowed):
    def start(self):
        self.fresh, self.main, self.uses, self.gone = deque(), deque(), {}, {}
        self.victims = self.entered = self.debt = self.want_fresh = self.kept = 0
        self.score = {"early": 0, "late": 0, "hasty": 0}

    def admit(self, page):
        if page in self.gone:
            self.returns(page, len(self.resident) - 1)
        self.entered += 1
        if self.entered >= 2 * (len(self.resident) - 1):
            self.entered = 0
            self.score = {name: value // 2 for name, value in self.score.items()}
        super().admit(page)

    def returns(self, page, others):
        origin, number = self.gone.pop(page)
        if self.victims - number > share(others, 25):
            return
        if origin == "window":
            self.score["hasty"] += 1
            return
        self.score["late"] += 1
        self.want_fresh = max(self.want_fresh + (4 if origin == "fresh" else -4), 0)
        least = share(others, 5)
        self.want_fresh = max(min(self.want_fresh, others - least), least)

    def worth_keeping(self):
        against = 4 * self.score["late"]
        in_favour = max(4 * self.score["early"] + self.score["hasty"], against // 64)
        if in_favour >= against:
            return True
        self.debt += in_favour
        if self.debt < against:
            return False
        self.debt -= against
        return True

    def evict(self):
        while True:
            origin, page = self.step()
            if page is not None:
                self.victims += 1
                self.kept = 0
                self.gone[page] = (origin, self.victims)
                return page
            self.kept += 1

    def step(self):
        if len(self.waiting) > share(self.frames, self.window):
            page = self.waiting.popleft()
            self.used.discard(page)
            if not self.worth_keeping():
                return "window", page
            self.fresh.append(page)
            return None, None
        if self.fresh and (len(self.fresh) > self.want_fresh or not self.main):
            page = self.fresh.popleft()
            if not self.test(page):
                return "fresh", page
            self.score["early"] += 1
            self.uses[page] = 0
            self.main.append(page)
            return None, None
        if not self.main:
            return "window", self.waiting.popleft()
        page = self.main.popleft()
        if self.test(page):
            self.uses[page] = min(self.uses[page] + 1, self.most)
        elif self.uses[page] == 0 or self.kept >= self.frames:
            return "main", page
        else:
            self.uses[page] -= 1
        self.main.append(page)
        return None, None


POLICIES = {"fifo": Fifo, "lru": Lru, "opt": Opt, "clock": Clock, "gclock": Gclock, "nru": Nru,
            "aging": Aging, "ws": Ws, "wsclock": Wsclock, "sieve": Sieve, "s3fifo": S3fifo,
            "clockpro": Clockpro, "generations": Generations, "adaptive": Adaptive}


def make_string(shape, pages, length, seed):
    dice = random.Random(seed)
    hot = max(1, pages // 5)
    string = []
    for i in range(length):
        if shape == 0:
            page = dice.randrange(pages)
        elif shape == 1:
            page = i % pages
        elif shape == 2:
            page = min(int(dice.paretovariate(0.7)) - 1, pages - 1)
        elif shape == 3:
            page = dice.randrange(hot) if i // 50 % 3 else i % pages
        else:
            page = (i // 100 + dice.randrange(hot)) % pages
        string.append((page, dice.random() < 0.3))
    return string


def real_string(path, lines):
    unpacked = subprocess.Popen(["zstd", "-dcq", "--long=27", path], stdout=subprocess.PIPE)
    index, string = {}, []
    for line in unpacked.stdout:
        if len(line) < 5 or line[0:1] not in (b"I", b" ") or b"," not in line:
            continue
        page = int(line[3:].split(b",")[0], 16) // 4096
        page = index.setdefault(page, len(index))
        if not string or string[-1][0] != page:
            string.append((page, line[1:2] in (b"S", b"M")))
        if len(string) == lines:
            break
    unpacked.kill()
    unpacked.wait()
    return string


def write_nmt(path, string):
    pages = max(page for page, _ in string) + 1
    with open(path, "wb") as file:
        file.write(struct.pack("<4sIII", b"NMT2", pages, len(string), 0))
        file.write(struct.pack(f"<{pages}Q", *(0x400 + 3 * page for page in range(pages))))
        file.write(struct.pack(f"<{len(string)}I", *(p << 1 | w for p, w in string)))


def wanted(name, string, frames, parameters):
    memory = POLICIES[name](frames, **parameters)
    memory.future = [page for page, _ in string]
    for page, write in string:
        memory.refer(page, write)
    return memory.misses, memory.writes


def run_tool(neomm, path, *options):
    run = subprocess.run([neomm, "replay", "--json", *options, path], capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"{' '.join(run.args)}: exit status {run.returncode}\n{run.stderr}")
    return json.loads(run.stdout)


def main():
    neomm, directory = sys.argv[1:3]
    checks = failures = 0

    def check(what, have, want):
        nonlocal checks, failures
        checks += 1
        if have != want:
            failures += 1
            print(f"# {what}: {have}, not {want}")

    strings = [(f"shape{shape}", make_string(shape, pages, 600, shape), sizes)
               for shape, (pages, sizes) in enumerate([(30, (1, 7, 29)), (40, (2, 20, 39)),
                                                       (200, (5, 60)), (120, (3, 30, 100)),
                                                       (90, (4, 25, 70))])]
    if len(sys.argv) > 3:
        strings.append(("real", real_string(sys.argv[3], 2500), (20, 60)))
    configs = [("", {}), ("[swap]\npolicy_window = 20\npolicy_count = 1\npolicy_tick = 4\n",
                          {"window": 20, "count": 1, "tick": 4})]
    for number, (text, _) in enumerate(configs):
        with open(f"{directory}/policies{number}.conf", "w") as file:
            file.write(text)
    for label, string, sizes in strings:
        path = f"{directory}/{label}.nmt"
        write_nmt(path, string)
        for frames in sizes:
            optimal = wanted("opt", string, frames, {})[0]
            for number, (_, parameters) in enumerate(configs):
                for name in POLICIES:
                    if number and name in ("fifo", "lru", "opt", "clock"):
                        continue
                    where = f"{label} {name} {frames} frames, configuration {number}"
                    have = run_tool(neomm, path, "--fast", "--policy", name, "--resident-limit",
                                    f"{frames}p", "--config", f"{directory}/policies{number}.conf")
                    # (What OPT takes of pages that are never used again is its own choice.)
                    fields = ["misses"] if name == "opt" else ["misses", "swap_writes"]
                    check(where, [have[field] for field in fields],
                          list(wanted(name, string, frames, parameters))[:len(fields)])
                    check(where + ": optimal", have["optimal"], optimal)
    # The whole machine counts the same.
    for name in POLICIES:
        for label, _, sizes in strings if name not in ("lru", "opt") else []:
            options = ("--policy", name, "--resident-limit", f"{sizes[1]}p")
            fast = run_tool(neomm, f"{directory}/{label}.nmt", "--fast", *options)
            full = run_tool(neomm, f"{directory}/{label}.nmt", *options)
            check(f"{label} {name}: whole machine",
                  (full["faults"]["total"], full["tests"], full["swap_writes"], full["optimal"]),
                  (fast["misses"], fast["tests"], fast["swap_writes"], fast["optimal"]))
    print(f"{checks} checks, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
