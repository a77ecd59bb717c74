/* Sizes and numbers as people write them.
 * SPDX-License-Identifier: MIT */
#include "units.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The number at the front of text; *end is what follows. */
static bool leading_number(const char *text, uint64_t *number, const char **end)
{
    char *stop;
    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    *number = strtoull(text, &stop, 0);
    *end = stop;
    return errno == 0;
}

bool units_number(const char *text, uint64_t *number)
{
    const char *end;
    return leading_number(text, number, &end) && *end == '\0';
}

bool units_size(const char *text, uint64_t *bytes)
{
    static const struct {
        const char *suffix;
        unsigned shift;
    } unit[] = {{"", 0},     {"K", 10},   {"M", 20},   {"G", 30},   {"T", 40},
                {"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}, {"p", 12}};
    const char *end;
    uint64_t number;
    if (!leading_number(text, &number, &end))
        return false;
    for (size_t i = 0; i < sizeof(unit) / sizeof(unit[0]); i++) {
        if (strcasecmp(end, unit[i].suffix) != 0)
            continue;
        *bytes = number << unit[i].shift;
        return number <= (uint64_t)INT64_MAX >> unit[i].shift;
    }
    return false;
}
