"""Bugs to be seeded into copies of the engines: each replaces one piece of an engine's source.

Every one is of a kind that was made, or easily could be: a condition dropped, a
comparison turned round, a short cut taken where it does not hold.  ``systems``
are those whose random histories must reveal it.
"""

from __future__ import annotations

from typing import NamedTuple


class Bug(NamedTuple):
    name: str
    systems: tuple[str, ...]
    old: str
    new: str


UNIQUE = ("register", "cas-register", "cas-register, failing")
FEW = ("cas-register, 2 values", "cas-register, 4 values")

SEARCH = [
    Bug(
        "what leaves the state alone is taken at once, as if it were a read",
        FEW,
        "if read_only[cls] and not taken & bits[operation] and row[cls] == state:",
        "if not taken & bits[operation] and row[cls] == state:",
    ),
    Bug(
        "crashed writes are of no use to failed comparisons",
        UNIQUE,
        "if tests[cls] == IS_NOT and operands[cls] == state:",
        "if False:",
    ),
    Bug(
        "crashed operations are of no use to each other",
        (*FEW, *UNIQUE),
        "asked.update([operands[cls] for cls in unspent if tests[cls] == IS])",
        "pass",
    ),
    Bug(
        "crashed operations are of no use to other models' operations",
        ("fifo-queue", "set", "counter"),
        "useful = self.is_useful(operation, state, after, live, unspent)",
        "useful = False",
    ),
    Bug(
        "a configuration counts as visited though it has spent other crashed operations",
        (*FEW, "counter", "set"),
        "if not earlier & ~spent:",
        "if True:",
    ),
    Bug(
        "the cache forgets what has taken effect",
        FEW,
        "key = (at, state, taken)",
        "key = (at, state)",
    ),
    Bug(
        "crashed operations are taken before they are called",
        ("register", "counter"),
        "elif optional[event]:\n                bits[event] = 1 << len(self.optionals)\n"
        "                self.optionals.append(event)",
        "elif optional[event]:\n                bits[event] = 1 << self._problem.events[place:].count(event)",
    ),
    Bug(
        "slots are given out twice",
        ("mutex", "fifo-queue"),
        "bit = bits[event] = free.pop()",
        "bit = bits[event] = free[-1]",
    ),
    Bug(
        "refused operations are taken",
        ("fifo-queue", "mutex"),
        "if after < 0 or (skipped is not None and skipped[cls] == after):\n"
        "                continue\n            (first",
        "if skipped is not None and skipped[cls] == after:\n                continue\n            (first",
    ),
    Bug(
        "reads are not taken where they become legal",
        ("register", "set"),
        "reads = self.reads(here, state, taken)",
        "reads = self.reads(here, state, taken) and self.layout.walk[here][1]",
    ),
    Bug(
        "a reset that is still to come is overlooked",
        ("kv",),
        "if self.calls[reset] > place:\n                return True",
        "if self.calls[reset] > place:\n                continue",
    ),
    Bug(
        "a reset that has happened is hoped for",
        ("kv",),
        "reads = self.reads(here, state, taken)\n",
        "reads = self.layout.walk[here][1] if self.outlook else self.reads(here, state, taken)\n",
    ),
    Bug(
        "what returns need not have taken effect if nothing can follow",
        ("register", "fifo-queue"),
        "if not taken & bit:\n                        return here, taken\n                    taken ^= bit",
        "if not taken & bit and row:\n                        return here, taken\n                    taken &= ~bit",
    ),
]

C_SEARCH = [
    Bug(
        "what leaves the state alone is taken at once, as if it were a read",
        FEW,
        "return s->read_only[cls] && step(&s->steps, s->state, cls) == s->state;",
        "return step(&s->steps, s->state, cls) == s->state;",
    ),
    Bug(
        "crashed writes are of no use to failed comparisons",
        UNIQUE,
        "            elsewhere = 1;",
        "            elsewhere = 0;",
    ),
    Bug(
        "crashed operations are of no use to each other",
        (*FEW, *UNIQUE),
        "if (!has(spent, i) && steps->tests[cls] == IS)",
        "if (0 && !has(spent, i) && steps->tests[cls] == IS)",
    ),
    Bug(
        "crashed operations are of no use to other models' operations",
        ("fifo-queue", "set", "counter"),
        "if (then >= 0 && then != step(&s->steps, s->state, s->classes[other]))\n            return 1;",
        "if (then >= 0 && then != step(&s->steps, s->state, s->classes[other]))\n            return 0;",
    ),
    Bug(
        "a configuration counts as visited though it has spent other crashed operations",
        (*FEW, "counter", "set"),
        "if (small[i] & ~large[i])",
        "if (0 && small[i] & ~large[i])",
    ),
    Bug(
        "the cache forgets what has taken effect",
        FEW,
        "if (!memcmp(earlier, fresh, (1 + window) * sizeof *fresh) &&",
        "if (!memcmp(earlier, fresh, sizeof *fresh) &&",
    ),
    Bug(
        "crashed operations are taken before they are called",
        ("register", "counter"),
        "s->optional_before[returns++] = optionals;",
        "s->optional_before[returns++] = optionals + (at + 1 < events && s->events[at + 1] >= 0 &&"
        " s->optional[s->events[at + 1]] ? (s->slot[s->events[at + 1]] = optionals,"
        " s->optionals[optionals] = s->events[at + 1], 1) : 0);",
    ),
    Bug(
        "slots are given out twice",
        ("mutex", "fifo-queue"),
        "s->slot[operation] = free_count ? free_slots[--free_count] : slots++;",
        "s->slot[operation] = free_count ? free_slots[free_count - 1] : slots++;",
    ),
    Bug(
        "of several open operations the window drops the wrong one",
        ("register", "fifo-queue"),
        "for (; into > 0 && deadline[window[into - 1]] > deadline[operation]; into--)",
        "for (; into > 0 && deadline[window[into - 1]] < deadline[operation]; into--)",
    ),
    Bug(
        "reads are not taken where they become legal",
        ("register", "set"),
        "            put(s->now, s->slot[operation]);\n            taken = 1;",
        "            put(s->now, s->slot[s->open[s->open_start[rank]]]);\n            taken = 1;",
    ),
    Bug(
        "a reset that is still to come is overlooked",
        ("kv",),
        "if (s->called[reset] > s->place)\n            return 1;",
        "if (s->called[reset] > s->place)\n            continue;",
    ),
    Bug(
        "the memo mixes up states",
        ("fifo-queue", "counter", "set"),
        "uint64_t key = (uint64_t)(uint32_t)state << 32 | (uint32_t)cls;",
        "uint64_t key = (uint64_t)(uint32_t)(state & 1) << 32 | (uint32_t)cls;",
    ),
]

ZONES = [
    Bug(
        "a write that never returned is left out though it was read",
        UNIQUE,
        "        self.needed[self.read_values] = True\n",
        "",
    ),
    Bug(
        "what a needed compare-and-set took is not needed",
        UNIQUE,
        "            self.needed[before] = True",
        "            break",
    ),
    Bug(
        "two compare-and-sets may take the same value",
        UNIQUE,
        "if len(linked) and (followers := np.bincount(before)).max() > 1:",
        "if False:",
    ),
    Bug(
        "a value may be read before its write is called",
        UNIQUE,
        "too_early = np.flatnonzero(read_returns < self.last_call[self.read_values])",
        "too_early = np.flatnonzero(read_returns < 0)",
    ),
    Bug(
        "a read does not end its value's zone",
        UNIQUE,
        "np.minimum.at(self.first_return, self.read_values, read_returns)",
        "pass",
    ),
    Bug(
        "a read does not begin its value's zone",
        UNIQUE,
        "np.maximum.at(self.last_call, self.read_values, columns.call[self.reads])",
        "pass",
    ),
    Bug(
        "forward zones may overlap",
        UNIQUE,
        "clash = np.flatnonzero(starts[1:] < ends[:-1])\n        if len(clash):\n            pair = self.forward",
        "clash = []\n        if len(clash):\n            pair = self.forward",
    ),
    Bug(
        "a backward zone may lie within a forward one",
        UNIQUE,
        "(self.after >= 0) & (ends[self.after] > self.chain_start[self.backward])",
        "(self.after >= 0) & (ends[self.after] > self.chain_end[self.backward] + 99)",
    ),
    Bug(
        "any two forward zones that touch are an overlap",
        UNIQUE,
        "clash = np.flatnonzero(starts[forward][1:] < ends[forward][:-1])",
        "clash = np.flatnonzero(starts[forward][1:] < ends[forward][:-1] + 2)",
    ),
    Bug(
        "the order within chains is not checked",
        UNIQUE,
        "late = np.flatnonzero(~is_first[1:] & (self.first_return[held][1:] < latest[:-1]))",
        "late = []",
    ),
    Bug(
        "a failure may come where its value is held last",
        UNIQUE,
        "inside = (first[denied] < gap) & (gap <= last[denied] + 1)",
        "inside = (first[denied] < gap) & (gap <= last[denied])",
    ),
    Bug(
        "a failure may come after its return",
        UNIQUE,
        "if (raised > highest).any():",
        "if (raised > len(order)).any():",
    ),
    Bug(
        "a failure may come before its call",
        UNIQUE,
        'gap = np.searchsorted(earliest_return, calls, side="left")',
        "gap = np.zeros(len(calls), np.int64)",
    ),
    Bug(
        "a failure whose value is held at its call is impossible",
        UNIQUE,
        "self.needed[denied] & (self.first_return[denied] < calls) & (returns < self.last_call[denied])",
        "self.needed[denied] & (self.first_return[denied] < calls) & (calls < self.last_call[denied])",
    ),
]

GUIDED = [
    Bug(
        "crashed operations that nobody saw are never put back",
        UNIQUE,
        "helpful = helpful[~kept[helpful]][-count:]",
        "helpful = helpful[:0]",
    ),
    Bug(
        "crashed operations are put back from the wrong side of time",
        UNIQUE,
        "columns.call[left_out] <= stuck_at",
        "columns.call[left_out] > stuck_at",
    ),
    Bug(
        "only one crashed operation is put back",
        UNIQUE,
        "        kept[helpful] = True\n",
        "        kept[helpful[-1:]] = True\n        left_out = left_out[:0]\n",
    ),
    Bug(
        "what cannot be decided is linearizable",
        UNIQUE,
        "if outcome.result is CheckResult.OK:",
        "if outcome.result is not CheckResult.UNKNOWN:",
    ),
    Bug(
        "only what zones put in order is searched",
        UNIQUE,
        "kept = (columns.return_ < NEVER) | (due < NEVER)",
        "kept = place < len(place)",
    ),
    Bug(
        "crashed compare-and-sets are not put back",
        UNIQUE,
        "left_out = np.flatnonzero(~kept & (columns.assign >= 0) & (columns.assign != columns.operand))",
        "left_out = np.flatnonzero(~kept & (columns.assign >= 0) & (columns.test == 0))",
    ),
    Bug(
        "crashed writes are not put back",
        UNIQUE,
        "left_out = np.flatnonzero(~kept & (columns.assign >= 0) & (columns.assign != columns.operand))",
        "left_out = np.flatnonzero(~kept & (columns.assign >= 0) & (columns.test == 1))",
    ),
    Bug(
        "all crashed operations are due at the end",
        UNIQUE,
        "    due = zones.deadline\n",
        "    due = np.where(columns.return_ == NEVER, columns.call.max() + 99, NEVER)\n",
    ),
    Bug(
        "zones that cannot tell count as yes",
        UNIQUE,
        "    return _search_guided(columns, zones, budget, search)\n",
        "    return ColumnsOutcome(CheckResult.OK)\n",
    ),
    Bug(
        "the linearization names rows of the part that was searched",
        UNIQUE,
        "rows[replay(problem, outcome.choices)].tolist()",
        "replay(problem, outcome.choices)[:-1]",
    ),
]

ARRAYS = [
    Bug("a failed cas counts as success", UNIQUE, "(output != 1)", "(output == 9)"),
    Bug("reads ask for what they were given", UNIQUE, "np.where(f == READ, output, a)", "a"),
    Bug("a cas assigns what it compares with", UNIQUE, "assign = np.where(f == WRITE, a, b)", "assign = a"),
    Bug("failures ask for their value", UNIQUE, "np.where(failed, 2, 1)", "np.where(failed, 1, 1)"),
    Bug(
        "what never returned returned at once",
        UNIQUE,
        "np.where(returned, return_, NEVER)",
        "np.where(returned, return_, call)",
    ),
    Bug(
        "the first value is a value like any other",
        UNIQUE,
        "initial - low, high - low + 1",
        "high - low, high - low + 1",
    ),
    Bug("a return comes before a call at the same time", UNIQUE, "3 * return_[ends] + 2", "3 * return_[ends] - 1"),
    Bug("what is due is optional", UNIQUE, "optional[ends] = False", "optional[return_ < NEVER] = False"),
    Bug(
        "crashed writes are no events",
        UNIQUE,
        "np.flatnonzero(~optional | ~np.array(steps.read_only)[classes])",
        "np.flatnonzero(~optional)",
    ),
    Bug(
        "two kinds of operation are taken for one",
        UNIQUE,
        "(test * (columns.values + 1) + operand)",
        "(test + operand)",
    ),
]

REVISIONS = [
    Bug(
        "reads at one revision are put in the wrong order",
        ("etcd",),
        "(places[number], calls[number])",
        "(places[number], -calls[number])",
    ),
    Bug(
        "what wrote is put behind what read that",
        ("etcd",),
        "(places[number], calls[number])",
        "(places[number][0], -places[number][1], calls[number])",
    ),
    Bug("the model is not asked", ("etcd",), "if state == REFUSED or", "if"),
    Bug("real time is not checked", ("etcd",), "returns.get(number, latest_call) < latest_call", "False"),
    Bug("only what comes next must be in real time", ("etcd",), "max(latest_call, calls[number])", "calls[number]"),
    Bug("what has no place is left out", ("etcd",), "if places[number] is None), key=calls", "if False), key=calls"),
    Bug("what has a place is left out", ("etcd",), "return order + placed[start:]", "return order"),
    Bug(
        "what has no place is put in twice",
        ("etcd",),
        "*placed[start:gap], number]",
        "*placed[start:gap], number, number]",
    ),
    Bug("refused operations keep the state", ("etcd",), "        if state == REFUSED or", "        if"),
    Bug(
        "a state is not carried on",
        ("etcd",),
        "state = steps.step(state, problem.classes[number])",
        "state = max(state, steps.step(state, problem.classes[number]))",
    ),
    Bug(
        "the last operation is not checked",
        ("etcd",),
        "for number in order:\n        latest",
        "for number in order[:-1]:\n        latest",
    ),
]
