/* A test suite as a host program: test-NAME [--list | ID-PREFIX].
 * SPDX-License-Identifier: MIT */
#include "ktap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The build says which suite this program is. */
extern const struct ktap_suite TEST_SUITE;

static bool complete;

void ktap_write(const char *text, size_t length)
{
    (void)fwrite(text, 1, length, stdout);
    (void)fflush(stdout);
}

/* A case that ended the program must not look like success. */
static void at_exit(int status, void *unused)
{
    (void)unused;
    if (complete || status != 0)
        return;
    (void)fputs("# the program ended before its last result\n", stderr);
    _exit(3);
}

int main(int argc, char **argv)
{
    const char *only = argc > 1 ? argv[1] : NULL;
    if (argc > 2 || (only && only[0] == '-' && strcmp(only, "--list") != 0)) {
        (void)fprintf(stderr, "usage: %s [--list | ID-PREFIX]\n", argv[0]);
        return 2;
    }
    if (only && strcmp(only, "--list") == 0) {
        ktap_list(&TEST_SUITE);
        return 0;
    }
    if (on_exit(at_exit, NULL) != 0)
        return 3;
    unsigned failed = ktap_run(&TEST_SUITE, only);
    complete = true;
    return failed == 0 ? 0 : 1;
}
