/* neomm: the host tool; finds the command and hands over.
 * SPDX-License-Identifier: MIT */
#include "commands.h"

#include <neomm/neomm.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"map", command_map, "what a kernel gets from a firmware memory map"},
    {"replay", command_replay, "a real program's memory references on the simulated machine"},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_usage(FILE *to)
{
    (void)fprintf(to, "usage: neomm COMMAND [options]\n\n");
    for (size_t i = 0; i < COMMANDS; i++)
        (void)fprintf(to, "  %-8s %s\n", commands[i].name, commands[i].help);
    (void)fprintf(to,
                  "\n`neomm COMMAND --help` says more. `neomm --version` prints the version.\n");
}

/* A result that could not be written is none. */
static int output_is_complete(const char *name, int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    (void)fprintf(stderr, "%s: error: standard output: %s\n", name, strerror(errno));
    return status == 0 ? 1 : status;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(name, commands[i].name) == 0)
            return output_is_complete(name, commands[i].run(argc - 1, argv + 1));
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        print_usage(stdout);
        return 0;
    }
    if (strcmp(name, "--version") == 0) {
        (void)printf("neomm %d.%d.%d\n", NEOMM_VERSION_MAJOR, NEOMM_VERSION_MINOR,
                     NEOMM_VERSION_PATCH);
        return 0;
    }
    if (argc > 1)
        (void)fprintf(stderr, "neomm: unknown command `%s`\n\n", name);
    print_usage(stderr);
    return 2;
}
