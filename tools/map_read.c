/* neomm map: reading a memory map as people paste it.
 * SPDX-License-Identifier: MIT
 *
 * Three kinds of lines are entries, all others are skipped and counted:
 *
 *   anything BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable     last byte
 *   anything BIOS-e820: 0000000000000000 - 000000000009fc00 (usable)           end
 *   0x0 0x9fc00 usable                                                         end
 */
#include "map.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES_MAX ((uint32_t)1 << 24)
#define ERRORS_MAX  100
#define QUOTE_MAX   40

/* The line that is read, and where its reading has come to. */
struct line {
    const char *name;
    uint64_t number;
    const char *at;
};

static bool fail(const struct line *line, const char *format, ...) NEOMM_PRINTF(2, 3);

static bool fail(const struct line *line, const char *format, ...)
{
    va_list arguments;
    (void)fprintf(stderr, "%s:%llu: error: ", line->name, (unsigned long long)line->number);
    va_start(arguments, format);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    (void)fputc('\n', stderr);
    return false;
}

/* The first characters of some text, safe to print, in `quote`. */
static const char *quoted(const char *text, char *quote)
{
    size_t length = 0;
    for (; text[length] != '\0' && length < QUOTE_MAX; length++)
        quote[length] = isprint((unsigned char)text[length]) ? text[length] : '?';
    memcpy(quote + length, text[length] != '\0' ? "..." : "\0\0\0", 4);
    return quote;
}

static void skip_spaces(struct line *line)
{
    while (isspace((unsigned char)*line->at))
        line->at++;
}

static bool take(struct line *line, const char *word)
{
    size_t length = strlen(word);
    skip_spaces(line);
    if (strncasecmp(line->at, word, length) != 0)
        return false;
    line->at += length;
    return true;
}

/* A hexadecimal number with or without 0x. `carry`: it is 2^64. */
static bool take_number(struct line *line, uint64_t *number, bool *carry)
{
    char quote[QUOTE_MAX + 4];
    skip_spaces(line);
    const char *start = line->at;
    if (line->at[0] == '0' && (line->at[1] | 0x20) == 'x')
        line->at += 2;
    const char *digits = line->at;
    *number = 0;
    *carry = false;
    for (; isxdigit((unsigned char)*line->at); line->at++) {
        unsigned digit = isdigit((unsigned char)*line->at)
                             ? (unsigned)(*line->at - '0')
                             : (unsigned)(*line->at | 0x20) - 'a' + 10;
        if (*carry || *number >> 60 > 1 || (*number >> 60 == 1 && (*number << 4 | digit) != 0))
            return fail(line, "`%s` is beyond 2^64", quoted(start, quote));
        *carry = *number >> 60 == 1;
        *number = *number << 4 | digit;
    }
    if (line->at == digits)
        return fail(line, "a hexadecimal address should be at `%s`", quoted(start, quote));
    if (isalnum((unsigned char)*line->at) || *line->at == '_')
        return fail(line, "`%s` is not a hexadecimal address", quoted(start, quote));
    return true;
}

static bool take_first(struct line *line, uint64_t *number)
{
    bool carry;
    if (!take_number(line, number, &carry))
        return false;
    return carry ? fail(line, "the range begins at 2^64") : true;
}

/* ---- types ---- */

static const struct {
    const char *word;
    enum neomm_memory_type type;
} words[] = {
    {"usable", NEOMM_MEMORY_USABLE},       {"ram", NEOMM_MEMORY_USABLE},
    {"ACPI data", NEOMM_MEMORY_ACPI},      {"ACPI NVS", NEOMM_MEMORY_NVS},
    {"acpi", NEOMM_MEMORY_ACPI},           {"nvs", NEOMM_MEMORY_NVS},
    {"reserved", NEOMM_MEMORY_RESERVED},   {"soft reserved", NEOMM_MEMORY_RESERVED},
    {"unusable", NEOMM_MEMORY_BAD},        {"bad", NEOMM_MEMORY_BAD},
    {"kernel", NEOMM_MEMORY_KERNEL},       {"boot", NEOMM_MEMORY_BOOT},
    {"persistent", NEOMM_MEMORY_RESERVED}, {"hotplug", NEOMM_MEMORY_HOTPLUG},
};

/* "type 20", "(type 7)" or a number alone: as in the firmware's table. */
static bool take_type_number(struct line *line, enum neomm_memory_type *type)
{
    bool bracket = take(line, "(");
    (void)take(line, "type");
    skip_spaces(line);
    if (!isdigit((unsigned char)*line->at))
        return false;
    errno = 0;
    char *end;
    unsigned long number = strtoul(line->at, &end, 10);
    if (errno != 0 || number > UINT32_MAX)
        return false;
    line->at = end;
    *type = neomm_e820_type((uint32_t)number);
    return !bracket || take(line, ")");
}

static bool at_end(struct line *line)
{
    skip_spaces(line);
    return *line->at == '\0';
}

/* All of the rest of the line. */
static bool take_type(struct line *line, enum neomm_memory_type *type)
{
    char quote[QUOTE_MAX + 4];
    skip_spaces(line);
    const char *start = line->at;
    enum neomm_memory_type number;
    if (*start == '\0')
        return fail(line, "the type is missing");
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        line->at = start;
        if (!take(line, words[i].word))
            continue;
        *type = words[i].type;
        if (at_end(line) || (take_type_number(line, &number) && at_end(line)))
            return true;
    }
    line->at = start;
    if (take_type_number(line, type) && at_end(line))
        return true;
    return fail(line, "unknown memory type `%s`", quoted(start, quote));
}

/* ---- entries ---- */

static bool add(struct line *line, struct map_input *input, struct neomm_boot_range entry)
{
    if (input->count == ENTRIES_MAX)
        return fail(line, "more than %u entries", ENTRIES_MAX);
    if (input->count == input->capacity) {
        uint32_t capacity = input->capacity ? input->capacity * 2 : 64;
        void *grown = realloc(input->entries, capacity * sizeof(entry));
        if (!grown)
            return fail(line, "out of memory");
        input->entries = grown;
        input->capacity = capacity;
    }
    input->entries[input->count++] = entry;
    return true;
}

/* `end` is 2^64 when `carry`. */
static bool add_range(struct line *line, struct map_input *input, uint64_t first, uint64_t end,
                      bool carry, enum neomm_memory_type type)
{
    if (!carry && end < first)
        return fail(line, "the range ends at %#llx, before it begins", (unsigned long long)end);
    uint64_t length = end - first;
    if (carry && first == 0)
        length = UINT64_MAX;
    return add(line, input, (struct neomm_boot_range){first, length, type});
}

/* [mem FIRST-LAST] TYPE; Linux prints an empty one with LAST one below FIRST. */
static bool parse_brackets(struct line *line, struct map_input *input)
{
    uint64_t first, last;
    bool carry;
    enum neomm_memory_type type = NEOMM_MEMORY_RESERVED;
    if (!take_first(line, &first))
        return false;
    if (!take(line, "-"))
        return fail(line, "a `-` should be between the addresses");
    if (!take_number(line, &last, &carry))
        return false;
    if (carry)
        return fail(line, "the last byte is at 2^64");
    if (!take(line, "]"))
        return fail(line, "a `]` should be behind the addresses");
    if (!take_type(line, &type))
        return false;
    return add_range(line, input, first, last + 1, last == UINT64_MAX, type);
}

/* FIRST - END (TYPE), of kernels before 3.5. */
static bool parse_old(struct line *line, struct map_input *input)
{
    uint64_t first, end;
    bool carry;
    enum neomm_memory_type type = NEOMM_MEMORY_RESERVED;
    if (!take_first(line, &first))
        return false;
    if (!take(line, "-"))
        return fail(line, "a `-` should be between the addresses");
    if (!take_number(line, &end, &carry))
        return false;
    char *bracket = strrchr(line->at, ')');
    if (!take(line, "(") || !bracket)
        return fail(line, "the type should be in brackets");
    *bracket = ' ';
    return take_type(line, &type) && add_range(line, input, first, end, carry, type);
}

static bool parse_plain(struct line *line, struct map_input *input)
{
    uint64_t first, end;
    bool carry;
    enum neomm_memory_type type = NEOMM_MEMORY_RESERVED;
    return take_first(line, &first) && take_number(line, &end, &carry) && take_type(line, &type) &&
           add_range(line, input, first, end, carry, type);
}

/* Does the line begin with a number, well-formed or not? A date or a time does not count; a word
 * of hexadecimal letters alone has to be as long as an address. */
static bool begins_plain(const char *text)
{
    size_t length = strcspn(text, " \t\r\n");
    if (text[0] == '0' && (text[1] | 0x20) == 'x')
        return true;
    if (isdigit((unsigned char)text[0]))
        return strcspn(text, "-:./,+") >= length;
    return length >= 5 && strspn(text, "0123456789abcdefABCDEF") == length;
}

static bool parse(struct line *line, struct map_input *input)
{
    static const char marker[] = "BIOS-e820:";
    const char *found = strstr(line->at, marker);
    if (found) {
        line->at = found + sizeof(marker) - 1;
        return take(line, "[mem") ? parse_brackets(line, input) : parse_old(line, input);
    }
    skip_spaces(line);
    if (*line->at == '\0' || *line->at == '#')
        return true;
    if (begins_plain(line->at))
        return parse_plain(line, input);
    if (take(line, "[mem"))
        return parse_brackets(line, input);
    input->skipped++;
    return true;
}

bool map_read(FILE *file, const char *name, struct map_input *input)
{
    char *text = NULL;
    size_t capacity = 0;
    ssize_t length;
    errno = 0;
    while (input->errors < ERRORS_MAX && (length = getline(&text, &capacity, file)) >= 0) {
        struct line line = {name, ++input->lines, text};
        size_t end = (size_t)length;
        if (memchr(text, '\0', end)) {
            input->errors += !fail(&line, "a NUL byte: this is not a text file");
            continue;
        }
        while (end > 0 && isspace((unsigned char)text[end - 1]))
            text[--end] = '\0';
        input->errors += !parse(&line, input);
    }
    bool complete = input->errors < ERRORS_MAX && feof(file) && !ferror(file);
    if (input->errors == ERRORS_MAX)
        (void)fprintf(stderr, "%s: too many errors\n", name);
    else if (!complete)
        (void)fprintf(stderr, "%s: error: %s\n", name, strerror(errno ? errno : EIO));
    free(text);
    return complete;
}
