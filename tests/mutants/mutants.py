"""The bugs that `run.py` puts in: each breaks one rule of the design.

A mutant's *old* text must stand exactly once in its file. *tests* are those expected to notice; when they do
not, the whole suite has its chance.
"""

from __future__ import annotations

from dataclasses import dataclass

JOURNAL = ("tests/test_journal.py",)
STATE = ("tests/test_state.py",)
DOUBT = ("tests/test_doubt.py",)
CHECKS = ("tests/test_stories_checks.py",)
STORIES = (
    "tests/test_stories_servers.py",
    "tests/test_stories_doubt.py",
    "tests/test_stories_lives.py",
    "tests/test_stories_mutants.py",
)


@dataclass(frozen=True)
class Mutant:
    """One bug.

    Attributes:
        name: Short, unique.
        rule: The rule that it breaks, in words.
        file, old, new: What is replaced, and where.
        tests: Where to look first.
    """

    name: str
    rule: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = ()


MUTANTS = (
    # -- the journal ------------------------------------------------------------------------------------
    Mutant(
        "no-sync",
        "what gates a call is synced",
        "fleet/journal.py",
        "if type(event) in SYNCED:",
        "if type(event) in ():",
        JOURNAL,
    ),
    Mutant(
        "announcement-not-synced",
        "the announcement is on the disk before the call",
        "fleet/core/events.py",
        "        StopRequested,\n        ReinstallRequested,\n        ReinstallAccepted,\n",
        "        StopRequested,\n        ReinstallAccepted,\n",
        STORIES,
    ),
    Mutant(
        "memory-before-disk",
        "a fact is on the disk before it is in memory",
        "fleet/journal.py",
        "        self.journal.append(event, at)\n        apply(self.run, event, at)\n",
        "        apply(self.run, event, at)\n        self.journal.append(event, at)\n",
        JOURNAL,
    ),
    Mutant(
        "write-after-failure",
        "after the first failure nothing more is written",
        "fleet/journal.py",
        "        if self.broken is not None:\n            raise self.broken\n",
        "",
        JOURNAL,
    ),
    Mutant(
        "short-write",
        "a short write is completed",
        "fleet/journal.py",
        "        while view:\n            view = view[os.write(self._fd, view) :]\n",
        "        os.write(self._fd, view[:4096])\n",
        JOURNAL,
    ),
    Mutant(
        "crc-not-chained",
        "a checksum covers the lines before it",
        "fleet/journal.py",
        "    crc = zlib.crc32(body, crc)\n    return b",
        "    crc = zlib.crc32(body)\n    return b",
        JOURNAL,
    ),
    Mutant(
        "crc-not-checked",
        "a changed byte is noticed",
        "fleet/journal.py",
        '    if rest[:8] != b"%08x" % crc:\n        raise JournalError("the checksum is wrong")\n',
        "",
        JOURNAL,
    ),
    Mutant(
        "torn-tail-not-cut",
        "a torn line is cut before the next is written",
        "fleet/journal.py",
        "            if tail.torn:\n                _cut(path, tail)\n",
        "",
        JOURNAL,
    ),
    Mutant(
        "torn-middle-accepted",
        "damage in the middle is refused",
        "fleet/journal.py",
        "if is_last and entries and _is_torn(line):",
        "if entries:",
        JOURNAL,
    ),
    Mutant(
        "newer-format",
        "a newer format is refused",
        "fleet/journal.py",
        "if first.format > FORMAT:",
        "if first.format > 10**6:",
        JOURNAL,
    ),
    Mutant(
        "world-readable",
        "the journal is for its owner only",
        "fleet/journal.py",
        "self._fd = os.open(path, flags, 0o600)",
        "self._fd = os.open(path, flags, 0o666)",
        JOURNAL,
    ),
    # -- state and rollout ------------------------------------------------------------------------------
    Mutant(
        "any-event-follows",
        "what the table does not name is refused",
        "fleet/core/state.py",
        "        if type(event) not in TRANSITIONS[server.phase]:\n",
        "        if False:\n",
        STATE,
    ),
    Mutant(
        "was-off-forgotten",
        "what was off is what the first look said",
        "fleet/core/state.py",
        "            if server.noted is None:\n                server.was_off = was_off\n",
        "            server.was_off = was_off\n",
        STATE,
    ),
    Mutant(
        "concurrency-not-counted",
        "servers in flight count",
        "fleet/core/rollout.py",
        "room = settings.rollout.concurrency - target.in_flight",
        "room = settings.rollout.concurrency",
        STATE,
    ),
    Mutant(
        "holds-too-late",
        "the failure after the allowed ones holds",
        "fleet/core/rollout.py",
        "        if failed > allowed:\n",
        "        if failed > allowed + 1:\n",
        STATE,
    ),
    Mutant(
        "everybodys-cause-ignored",
        "a cause that is everybody's holds at once",
        "fleet/core/rollout.py",
        "    if run.everybody is not None:\n",
        "    if False:\n",
        STATE,
    ),
    Mutant(
        "held-run-goes-on",
        "a held run starts nothing",
        "fleet/core/rollout.py",
        "    if run.held is not None:\n        return Decision()\n",
        "",
        STATE,
    ),
    Mutant(
        "drained-run-goes-on",
        "a drained run starts nothing",
        "fleet/core/rollout.py",
        "    if run.drained is not None:\n        return Decision()\n",
        "",
        STATE,
    ),
    Mutant(
        "waves-overlap",
        "a wave begins when the one before is settled",
        "fleet/core/state.py",
        "target.waves[target.current].unsettled == 0:",
        "not target.waves[target.current].waiting:",
        STATE,
    ),
    Mutant(
        "limits-round-up",
        "failure limits round down",
        "fleet/core/rollout.py",
        "return math.floor(round(servers * amount.percent / 100, 6))",
        "return math.ceil(round(servers * amount.percent / 100, 6))",
        STATE,
    ),
    # -- in doubt, and the last look --------------------------------------------------------------------
    Mutant(
        "hasty",
        "not taken is concluded after the settle time only",
        "fleet/core/doubt.py",
        "if watched_s < noted.settle_s or (",
        "if (",
        DOUBT,
    ),
    Mutant(
        "one-look",
        "one sample proves nothing",
        "fleet/core/doubt.py",
        "MIN_LOOKS = 3",
        "MIN_LOOKS = 1",
        DOUBT,
    ),
    Mutant(
        "new-disk-ignored",
        "a new system disk proves that it was taken",
        "fleet/core/doubt.py",
        "return seen.system_disk is not None and seen.system_disk != noted.system_disk",
        "return False",
        DOUBT,
    ),
    Mutant(
        "deviation-forgotten",
        "a server that moved was not left alone",
        "fleet/core/doubt.py",
        "        if not self._deviation:\n            evidence",
        "        if as_before:\n            evidence",
        DOUBT,
    ),
    Mutant(
        "guess",
        "what cannot be told is not guessed",
        "fleet/core/doubt.py",
        "            Verdict.UNDECIDABLE,\n",
        "            Verdict.NOT_TAKEN,\n",
        DOUBT,
    ),
    Mutant(
        "name-not-compared",
        "a renamed server is not wiped",
        "fleet/core/doubt.py",
        "    if seen.name != member.name:\n",
        "    if False:\n",
        DOUBT,
    ),
    Mutant(
        "disk-not-compared",
        "a server with another disk than planned is not wiped",
        "fleet/core/doubt.py",
        "if not server.disk_may_differ and expected is not None and seen.system_disk != expected:",
        "if False:",
        DOUBT,
    ),
    Mutant(
        "lock-ignored",
        "a locked server is not wiped",
        "fleet/core/doubt.py",
        "    if seen.locked:\n",
        "    if False:\n",
        DOUBT,
    ),
    Mutant(
        "protection-ignored",
        "a protected server is not wiped",
        "fleet/core/doubt.py",
        "    if (protected := is_protected(settings, found)) is not None:\n        return protected\n",
        "",
        DOUBT,
    ),
    Mutant(
        "data-disks-not-compared",
        "data disks are the same ones",
        "fleet/core/doubt.py",
        '    compare("data disks"',
        '    compare("name"',
        DOUBT,
    ),
    # -- the steps --------------------------------------------------------------------------------------
    Mutant(
        "repost",
        "a lost answer is looked for, not asked for again",
        "fleet/runbook.py",
        "        ctx.record(ReinstallUnanswered(server=server.id, reason=error.message))\n",
        "        _refused(server, ctx, Unavailable(error.message))\n",
        STORIES,
    ),
    Mutant(
        "no-last-look",
        "the server is compared with the plan right before the wipe",
        "fleet/runbook.py",
        "    if (difference := may_wipe(server, seen, ctx.settings, ctx.target(server))) is not None:\n",
        "    if (difference := None) is not None:\n",
        STORIES,
    ),
    Mutant(
        "cloud-stops-on-repeat",
        "with-stop-server is never sent where the call may be a repeat",
        "fleet/orders.py",
        'stop_first=plan.mode == "with-stop-server" and server.noted is None and seen.is_on,',
        'stop_first=plan.mode == "with-stop-server",',
        ("tests/test_orders.py",),
    ),
    Mutant(
        "job-fail-is-success",
        "a failed job is a failure",
        "fleet/runbook.py",
        "        case JobStatus.FAIL:\n            reason = job.reason",
        "        case JobStatus.FAIL if not job:\n            reason = job.reason",
        STORIES,
    ),
    Mutant(
        "attempts-unlimited",
        "attempts are counted",
        "fleet/runbook.py",
        "    if server.accepted >= plan.reinstall.attempts:\n",
        "    if False:\n",
        STORIES,
    ),
    Mutant(
        "never-hard",
        "a soft stop that hangs is followed by a hard one",
        "fleet/runbook.py",
        "True: HARD_STOP_S if plan.then",
        "True: 0.0 if plan.then",
        STORIES,
    ),
    Mutant(
        "old-disk-verified",
        "success without a new disk is not verified",
        "fleet/runbook.py",
        "    if not has_new_disk(server.noted, seen):\n",
        "    if False:\n",
        STORIES,
    ),
    Mutant(
        "checks-skipped",
        "the plan's checks must pass",
        "fleet/runbook.py",
        "        if (why := await ctx.check(check, seen)) is not None:\n",
        "        if False:\n",
        CHECKS,
    ),
    Mutant(
        "not-stable",
        "checks must go on passing for the stable time",
        "fleet/runbook.py",
        "        if watched > good_since and watched - good_since >= plan.stable_for_s:\n",
        "        if watched > good_since:\n",
        CHECKS,
    ),
    Mutant(
        "left-running",
        "what was off is left off",
        "fleet/runbook.py",
        '    if not server.was_off or ctx.target(server).leave == "running":\n',
        "    if True:\n",
        STORIES,
    ),
    Mutant(
        "no-send-by",
        "a call that is too old is not sent",
        "fleet/runbook.py",
        "            send_by=announced + SEND_BY_SHARE * plan.settle_s,\n",
        "            send_by=announced + 10**9,\n",
        STORIES,
    ),
    # -- the engine -------------------------------------------------------------------------------------
    Mutant(
        "in-flight-forgotten",
        "what an earlier life left half done is gone on with",
        "fleet/engine.py",
        "                if server.phase in IN_FLIGHT:\n",
        "                if False:\n",
        STORIES,
    ),
    Mutant(
        "defect-ignored",
        "a step that breaks ends the life, with its error",
        "fleet/engine.py",
        "            self._abort(error)\n        self._wake.set()\n",
        "            pass\n        self._wake.set()\n",
        STORIES,
    ),
    Mutant(
        "resume-restarts-waves",
        "a finished run that is resumed has nothing to do",
        "fleet/core/state.py",
        "    wave.unsettled += (before in SETTLED) - (after in SETTLED)\n",
        "    wave.unsettled += (before in SETTLED) - (after is Phase.VERIFIED)\n",
        STATE,
    ),
    Mutant(
        "ourselves",
        "the machine that fleet runs on is not reinstalled",
        "fleet/core/preflight.py",
        "    if server.id.lower() in own_ids:\n",
        "    if False:\n",
        ("tests/test_preflight.py",),
    ),
    Mutant(
        "blind-time-counts",
        "time in which the cloud cannot be read is not watched",
        "fleet/observe.py",
        "self._watched_s = max(self._watched_s, now - self._blind_s - blind)",
        "self._watched_s = now",
        ("tests/test_observe.py",),
    ),
    # -- the client -------------------------------------------------------------------------------------
    Mutant(
        "client-reposts",
        "the client sends the wipe once",
        "fleet/cloud/ecs/client.py",
        "        response = await self._exchange(call)\n        try:\n            job = parse.job_id",
        "        response = await self._patiently(lambda: self._exchange(call))\n        try:\n            job = parse.job_id",
        ("tests/test_ecs_client.py",),
    ),
    Mutant(
        "sent-is-unsent",
        "only what provably did not leave may be repeated",
        "fleet/cloud/ecs/transport.py",
        "    return stage is _Stage.CONNECTING\n",
        "    return True\n",
        ("tests/test_ecs_transport.py",),
    ),
    Mutant(
        "5xx-is-refusal",
        "a 5xx is an unknown outcome",
        "fleet/cloud/ecs/classify.py",
        "DOUBTFUL_STATUSES = frozenset({408, 409, 425, 499})",
        "DOUBTFUL_STATUSES = frozenset()",
        ("tests/test_ecs_client.py",),
    ),
    Mutant(
        "redirects-followed",
        "redirects are not followed",
        "fleet/cloud/ecs/transport.py",
        "allow_redirects=False,",
        "allow_redirects=True,",
        ("tests/test_ecs_transport.py",),
    ),
    Mutant(
        "http-anywhere",
        "plain http is for loopback only",
        "fleet/cloud/ecs/transport.py",
        'if parts.scheme == "http" and not is_loopback(host):',
        "if False:",
        ("tests/test_ecs_transport.py",),
    ),
    # -- around it --------------------------------------------------------------------------------------
    Mutant(
        "no-lock",
        "two processes never work on one run",
        "fleet/runs.py",
        "                return fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "                return None\n",
        ("tests/test_runs.py",),
    ),
    Mutant(
        "no-claims",
        "two runs never work on one server",
        "fleet/runs.py",
        "            if other != path:\n",
        "            if False:\n",
        ("tests/test_runs.py",),
    ),
    Mutant(
        "any-edit",
        "who and with what is fixed for a run",
        "fleet/core/edits.py",
        "        (pacing if _is_pacing(path) else fixed).append(",
        "        pacing.append(",
        ("tests/test_edits.py",),
    ),
    Mutant(
        "any-cloud",
        "a run goes on on its own cloud only",
        "fleet/life.py",
        "    if not is_from(run, identity):\n",
        "    if False:\n",
        ("tests/test_life.py",),
    ),
    Mutant(
        "unfit-allowed",
        "an unfit server stops a run before it starts",
        "fleet/core/preflight.py",
        '    if server.locked:\n        reasons.append("it is locked")\n',
        "",
        ("tests/test_preflight.py",),
    ),
    Mutant(
        "secrets-plain-only",
        "secrets are found in every form",
        "fleet/secrets.py",
        "            self._forms.update(dict.fromkeys(_forms(value)))\n",
        "            self._forms[value] = None\n",
        ("tests/test_secrets.py",),
    ),
    Mutant(
        "secrets-to-checks",
        "no secret is handed to a check's environment",
        "fleet/checks.py",
        "        environment = _without_secrets(os.environ)\n",
        "        environment = dict(os.environ)\n",
        ("tests/test_checks.py",),
    ),
    Mutant(
        "late-stop-forgotten",
        "nobody is verified before a stop without an answer can no longer land",
        "fleet/runbook.py",
        "late_s = noted.settle_s if server.late_stop else 0.0",
        "late_s = 0.0",
        ("tests/test_stories_doubt.py",),
    ),
    Mutant(
        "dead-stop-forgotten",
        "a stop that a dead process may have sent is no different",
        "fleet/core/state.py",
        "server.late_stop |= server.stop_asked",
        "pass",
        ("tests/test_stories_doubt.py",),
    ),
)
