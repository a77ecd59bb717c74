/* The words of the boot command line.
 * SPDX-License-Identifier: MIT */
#include "kernel.h"

static char line[256];

void command_line_read(uint32_t loader_info)
{
    firmware_command_line(loader_info, line, sizeof(line));
}

const char *command_line(void)
{
    return line;
}

static bool word_is(const char *at, const char *word)
{
    while (*word)
        if (*at++ != *word++)
            return false;
    return *at == ' ' || *at == '\0';
}

bool command_line_has(const char *word)
{
    bool start = true;
    for (const char *at = line; *at; at++) {
        if (start && word_is(at, word))
            return true;
        start = *at == ' ';
    }
    return false;
}
