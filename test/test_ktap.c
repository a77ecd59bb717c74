/* Tests of the test harness itself, in child processes whose output is read back.
 * SPDX-License-Identifier: MIT */
#include "ktap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the suite that the children run ---- */

static void passes(struct ktap *t)
{
    EXPECT(t, true);
    EXPECT_EQ(t, 2 + 2, 4);
}

static void fails(struct ktap *t)
{
    EXPECT(t, 1 > 2);
    EXPECT_EQ(t, 6 * 7, 41);
    ASSERT(t, t->failures == 0);
    ktap_note(t, "not reached");
}

static void skips(struct ktap *t)
{
    ktap_skip(t, "no such device");
}

static void odd(struct ktap *t)
{
    ktap_note(t, "id %s", t->id);
    EXPECT_EQ(t, t->parameter % 2, 1);
}

static void floods(struct ktap *t)
{
    for (int i = 0; i < 100; i++)
        EXPECT(t, i > 100);
}

static void leaves(struct ktap *t)
{
    (void)t;
    exit(0);
}

static const uint64_t parameters[] = {1, 2, 31};

static const struct ktap_case inner_cases[] = {
    KTAP_CASE(passes), KTAP_CASE_WITH(odd, parameters),
    KTAP_CASE(skips),  KTAP_CASE(fails),
    KTAP_CASE(floods), KTAP_CASE(leaves),
};
static KTAP_SUITE(inner, inner_cases);

/* ---- running it ---- */

struct outcome {
    char text[16384];
    int status; /* as waitpid gives it */
};

/* What a child does whose output goes to the pipe: its exit status is the number of failures. */
static void child(int to, const char *only, bool list)
{
    if (dup2(to, STDOUT_FILENO) < 0 || dup2(to, STDERR_FILENO) < 0)
        _exit(99);
    if (list) {
        ktap_list(&suite_inner);
        _exit(0);
    }
    _exit((int)ktap_run(&suite_inner, only));
}

static bool run_child(struct outcome *outcome, const char *only, bool list)
{
    int ends[2];
    size_t used = 0;
    ssize_t got;
    if (pipe(ends) != 0)
        return false;
    pid_t pid = fork();
    if (pid == 0)
        child(ends[1], only, list);
    (void)close(ends[1]);
    while (used + 1 < sizeof(outcome->text) &&
           (got = read(ends[0], outcome->text + used, sizeof(outcome->text) - 1 - used)) > 0)
        used += (size_t)got;
    outcome->text[used] = '\0';
    (void)close(ends[0]);
    return pid > 0 && waitpid(pid, &outcome->status, 0) == pid;
}

/* The child's lines, indented, so that nobody takes them for this program's. */
static bool is_output(struct ktap *t, const struct outcome *outcome, const char *want)
{
    if (strcmp(outcome->text, want) == 0)
        return true;
    for (const char *line = outcome->text; *line; line += strcspn(line, "\n") + 1)
        ktap_note(t, "    %.*s", (int)strcspn(line, "\n"), line);
    return false;
}

static void passing(struct ktap *t)
{
    struct outcome outcome;
    ASSERT(t, run_child(&outcome, "passes", false));
    EXPECT(t, is_output(t, &outcome,
                        "KTAP version 1\n# suite: inner\n1..1\nok 1 passes\n"
                        "# inner: 1 passed, 0 failed\n"));
    EXPECT_EQ(t, outcome.status, 0);
}

static void parameter_list(struct ktap *t)
{
    struct outcome outcome;
    ASSERT(t, run_child(&outcome, "odd", false));
    EXPECT(t, strstr(outcome.text, "1..3\n# id odd/1\nok 1 odd/1\n# id odd/2\n# "));
    EXPECT(t, strstr(outcome.text, "t->parameter % 2 == 1: have 0 (0x0), want 1 (0x1)\n"
                                   "not ok 2 odd/2\n# id odd/31\nok 3 odd/31\n"));
    EXPECT_EQ(t, WEXITSTATUS(outcome.status), 1);
    ASSERT(t, run_child(&outcome, "odd/3", false));
    EXPECT(t, is_output(t, &outcome,
                        "KTAP version 1\n# suite: inner\n1..1\n# id odd/31\n"
                        "ok 1 odd/31\n# inner: 1 passed, 0 failed\n"));
    EXPECT_EQ(t, outcome.status, 0);
}

static void skipping(struct ktap *t)
{
    struct outcome outcome;
    ASSERT(t, run_child(&outcome, "skips", false));
    EXPECT(t, strstr(outcome.text, "\nok 1 skips # SKIP no such device\n"));
    EXPECT_EQ(t, outcome.status, 0);
}

static void failing(struct ktap *t)
{
    struct outcome outcome;
    ASSERT(t, run_child(&outcome, "fails", false));
    EXPECT(t, strstr(outcome.text, "failed: 1 > 2\n"));
    EXPECT(t, strstr(outcome.text, "failed: 6 * 7 == 41: have 42 (0x2a), want 41 (0x29)\n"));
    EXPECT(t, strstr(outcome.text, "\nnot ok 1 fails\n"));
    EXPECT(t, !strstr(outcome.text, "not reached"));
    EXPECT_EQ(t, WEXITSTATUS(outcome.status), 1);
}

static void flood(struct ktap *t)
{
    struct outcome outcome;
    unsigned lines = 0;
    ASSERT(t, run_child(&outcome, "floods", false));
    for (const char *at = outcome.text; (at = strstr(at, "i > 100")) != NULL; at++)
        lines++;
    EXPECT_EQ(t, lines, 20);
    EXPECT(t, strstr(outcome.text, "# 80 more failures\nnot ok 1 floods\n"));
}

static void no_match(struct ktap *t)
{
    struct outcome outcome;
    ASSERT(t, run_child(&outcome, "nothing", false));
    EXPECT(t, strstr(outcome.text, "1..1\nnot ok 1 no case begins with this: nothing\n"));
    EXPECT_EQ(t, WEXITSTATUS(outcome.status), 1);
}

/* A case that leaves the program with status 0 is no success. */
static void early_exit(struct ktap *t)
{
    struct outcome outcome;
    ASSERT(t, run_child(&outcome, "leaves", false));
    EXPECT(t, WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) != 0);
    EXPECT(t, strstr(outcome.text, "ended before its last result"));
}

static void listing(struct ktap *t)
{
    struct outcome outcome;
    ASSERT(t, run_child(&outcome, NULL, true));
    EXPECT(t,
           is_output(t, &outcome, "passes\nodd/1\nodd/2\nodd/31\nskips\nfails\nfloods\nleaves\n"));
}

static const struct ktap_case cases[] = {
    KTAP_CASE(passing), KTAP_CASE(parameter_list), KTAP_CASE(skipping),   KTAP_CASE(failing),
    KTAP_CASE(flood),   KTAP_CASE(no_match),       KTAP_CASE(early_exit), KTAP_CASE(listing),
};
KTAP_SUITE(ktap, cases);
