/* memstat: the statistics of a finished or running simulation.
 * SPDX-License-Identifier: MIT */
#include "config_file.h"

#include <neomm/stats.h>

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char usage[] =
    "usage: memstat [--json] SNAPSHOT [DELAY [COUNT]]\n"
    "       memstat --check-config FILE\n"
    "\n"
    "Prints the statistics that `neomm replay --snapshot SNAPSHOT` keeps in a file while it runs\n"
    "and leaves there at its end. With DELAY again and again, every DELAY seconds, COUNT times.\n"
    "\n"
    "  --json               one JSON object a line (schema neomm.memstat/1)\n"
    "  --check-config FILE  reports every mistake in a memory_manager.conf\n"
    "\n"
    "Exit status: 0 printed or no mistake, 1 no readable snapshot or a mistake, 2 usage.\n";

static void print(void *context, const char *text, size_t length)
{
    fwrite(text, 1, length, context);
}

static bool read_snapshot(const char *path, struct neomm_snapshot *snapshot)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "memstat: %s: %s\n", path, strerror(errno));
        return false;
    }
    size_t bytes = fread(snapshot, 1, sizeof(*snapshot), file);
    fclose(file);
    neomm_status status = neomm_snapshot_check(snapshot, bytes);
    if (status == NEOMM_OK)
        return true;
    fprintf(stderr, "memstat: %s: not a snapshot of this version (%s)\n", path,
            neomm_status_text(status));
    return false;
}

/* Has all that was printed reached its end? */
static bool printed(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return true;
    fprintf(stderr, "memstat: cannot write the output: %s\n", strerror(errno));
    return false;
}

static bool show(const char *path, bool json)
{
    struct neomm_snapshot snapshot;
    if (!read_snapshot(path, &snapshot))
        return false;
    if (json) {
        neomm_snapshot_json(&snapshot, print, stdout);
        putchar('\n');
    } else {
        neomm_snapshot_text(&snapshot, print, stdout);
    }
    return printed();
}

/* A positive number of seconds or times; 0 if the text is none. */
static double positive(const char *text)
{
    char *end;
    double number = strtod(text, &end);
    return *end == '\0' && number > 0 && number < 1e9 ? number : 0;
}

static void pause_for(double seconds)
{
    struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&time, NULL);
}

static int check_config(const char *path)
{
    struct neomm_config config;
    return config_file_read(&config, path) ? 0 : 1;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},
        {"check-config", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    bool json = false;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'h') {
            fputs(usage, stdout);
            return printed() ? 0 : 1;
        }
        if (option == 'c')
            return check_config(optarg);
        if (option != 'j')
            return 2;
        json = true;
    }
    int given = argc - optind;
    double delay = given >= 2 ? positive(argv[optind + 1]) : 0;
    double count = given >= 3 ? positive(argv[optind + 2]) : given == 2 ? 1e18 : 1;
    if (given < 1 || given > 3 || (given >= 2 && delay == 0) || count < 1) {
        fputs(usage, stderr);
        return 2;
    }
    for (double shown = 1;; shown++) {
        if (!show(argv[optind], json))
            return 1;
        if (shown >= count)
            return 0;
        pause_for(delay);
    }
}
