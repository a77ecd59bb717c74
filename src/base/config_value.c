/* Values of memory_manager.conf: sizes, booleans, names and numbers, read and printed.
 * SPDX-License-Identifier: MIT */
#include "config_priv.h"

#include "bits.h"
#include "config_words.h"
#include "format.h"
#include "memory.h"

static const char units[] = "KMGT";

static bool fail(struct neomm__config_error *error, size_t at, const char *text)
{
    error->at = at;
    neomm__format(error->text, sizeof(error->text), "%s", text);
    return false;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static char upper(char c)
{
    return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

/* Is text the word, whatever the case of its letters? The word is in lower case. */
static bool is_word(const char *text, size_t length, const char *word)
{
    size_t i = 0;
    while (i < length && word[i] && lower(text[i]) == word[i])
        i++;
    return i == length && word[i] == '\0';
}

/* Reads digits from *at on; `what` is said if there is none. */
static bool read_number(const char *text, size_t length, size_t *at, uint64_t *number,
                        const char *what, struct neomm__config_error *error)
{
    size_t first = *at;
    for (*number = 0; *at < length && text[*at] >= '0' && text[*at] <= '9'; (*at)++) {
        uint64_t digit = (uint64_t)(text[*at] - '0');
        if (*number > (UINT64_MAX - 9) / 10)
            return fail(error, first, "too large");
        *number = *number * 10 + digit;
    }
    if (*at == first)
        return fail(error, first, what);
    return true;
}

static bool read_integer(const struct neomm__config_row *row, const char *text, size_t length,
                         uint32_t *value, struct neomm__config_error *error)
{
    uint64_t number;
    size_t at = 0;
    if (!read_number(text, length, &at, &number, "not a number", error))
        return false;
    if (at < length)
        return fail(error, at, "a number alone is wanted, without a unit");
    if (number < row->least || number > row->most) {
        error->at = 0;
        neomm__format(error->text, sizeof(error->text), "not from %u to %u", row->least, row->most);
        return false;
    }
    *value = (uint32_t)number;
    return true;
}

/* 1000 or 1024? Nobody agrees, so nobody is misunderstood. */
static bool refuse_decimal(struct neomm__config_error *error, size_t at, const char *unit,
                           uint64_t number)
{
    error->at = at;
    neomm__format(error->text, sizeof(error->text),
                  "'%.2s' is ambiguous: write %llu%c (units of 1024)", unit,
                  (unsigned long long)number, upper(unit[0]));
    return false;
}

/* The unit behind a number as a shift: K, KiB and so on; nothing is bytes. */
static bool read_unit(const char *text, size_t length, uint64_t number, size_t at, unsigned *shift,
                      struct neomm__config_error *error)
{
    const char *unit = text + at;
    size_t rest = length - at;
    *shift = 0;
    if (rest == 0)
        return true;
    while (units[*shift] && units[*shift] != upper(unit[0]))
        (*shift)++;
    bool known = units[*shift] != '\0';
    *shift = (*shift + 1) * 10;
    if (known && (rest == 1 || is_word(unit + 1, rest - 1, "ib")))
        return true;
    if (known && is_word(unit + 1, rest - 1, "b"))
        return refuse_decimal(error, at, unit, number);
    if (unit[0] == '.')
        return fail(error, at, "whole numbers only: take the next smaller unit");
    return fail(error, at, "unknown unit: write K, M, G or T");
}

/* Field by field: the padding stays zero, so configurations may be compared as bytes. */
static void set_size(struct neomm_config_size *size, uint64_t bytes, uint32_t percent)
{
    size->bytes = bytes;
    size->percent = percent;
}

static bool read_size(bool limit, const char *text, size_t length, struct neomm_config_size *size,
                      struct neomm__config_error *error)
{
    uint64_t number;
    size_t at = 0;
    unsigned shift;
    if (is_word(text, length, "unlimited")) {
        if (!limit)
            return fail(error, 0, "cannot be unlimited");
        set_size(size, UINT64_MAX, 0);
        return true;
    }
    if (!read_number(text, length, &at, &number,
                     "not a size: write a number with K, M, G or T, or a percentage", error))
        return false;
    while (at < length && (text[at] == ' ' || text[at] == '\t'))
        at++;
    if (at + 1 == length && text[at] == '%') {
        if (number > 100)
            return fail(error, 0, "more than 100%");
        set_size(size, 0, (uint32_t)number);
        return true;
    }
    if (!read_unit(text, length, number, at, &shift, error))
        return false;
    if (number > UINT64_MAX >> shift)
        return fail(error, 0, "too large");
    set_size(size, number << shift, 0);
    return true;
}

static bool read_bool(const char *text, size_t length, bool *value,
                      struct neomm__config_error *error)
{
    static const char *const word[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};
    for (size_t i = 0; i < NEOMM__COUNT_OF(word); i++)
        if (is_word(text, length, word[i])) {
            *value = i % 2 == 1;
            return true;
        }
    return fail(error, 0, "not a truth value: write yes or no");
}

/* The number of one of the words; `what` is said if it is none of them. */
static bool read_word(const char *text, size_t length, const char *const *word, uint32_t words,
                      uint32_t *value, const char *what, struct neomm__config_error *error)
{
    for (uint32_t i = 0; i < words; i++)
        if (is_word(text, length, word[i])) {
            *value = i;
            return true;
        }
    return fail(error, 0, what);
}

static bool is_name_letter(char c)
{
    c = lower(c);
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}

static bool read_name(const char *text, size_t length, char *name,
                      struct neomm__config_error *error)
{
    for (size_t i = 0; i < length; i++)
        if (!is_name_letter(text[i]))
            return fail(error, i, "a name has letters, digits, '_', '-' and '.' only");
    if (length >= NEOMM_CONFIG_NAME_MAX)
        return fail(error, NEOMM_CONFIG_NAME_MAX - 1, "a name has at most 31 letters");
    memset(name, 0, NEOMM_CONFIG_NAME_MAX);
    memcpy(name, text, length);
    return true;
}

bool neomm__config_read_value(const struct neomm__config_row *row, const char *text, size_t length,
                              void *field, struct neomm__config_error *error)
{
    if (length == 0)
        return fail(error, 0, "no value");
    switch (row->type) {
    case NEOMM__CONFIG_SIZE:
        return read_size(false, text, length, field, error);
    case NEOMM__CONFIG_LIMIT:
        return read_size(true, text, length, field, error);
    case NEOMM__CONFIG_BOOL:
        return read_bool(text, length, field, error);
    case NEOMM__CONFIG_NUMBER:
        return read_integer(row, text, length, field, error);
    case NEOMM__CONFIG_PROFILE:
        return read_word(text, length, neomm__profile_name, NEOMM_HEAP_PROFILES, field,
                         "not a profile: write fast, default, guarded or hardened", error);
    case NEOMM__CONFIG_OVERCOMMIT:
        return read_word(text, length, neomm__overcommit_name, NEOMM__OVERCOMMITS, field,
                         "not a mode: write refuse, heuristic or always", error);
    case NEOMM__CONFIG_WHERE:
        return read_word(text, length, neomm__huge_name, NEOMM_HUGES, field,
                         "write never, advise or always", error);
    case NEOMM__CONFIG_CODEC:
        return read_word(text, length, neomm__compression_name, NEOMM_COMPRESSIONS, field,
                         "write off, lz4 or dense", error);
    default:
        return read_name(text, length, field, error);
    }
}

static void print_size(const struct neomm_config_size *size, char *to, size_t room)
{
    uint64_t number = size->bytes;
    unsigned unit = 0;
    if (size->percent) {
        neomm__format(to, room, "%u%%", size->percent);
        return;
    }
    if (number == UINT64_MAX) {
        neomm__format(to, room, "unlimited");
        return;
    }
    while (number != 0 && (number & 1023) == 0 && unit < sizeof(units) - 1) {
        number >>= 10;
        unit++;
    }
    if (unit)
        neomm__format(to, room, "%llu%c", (unsigned long long)number, units[unit - 1]);
    else
        neomm__format(to, room, "%llu", (unsigned long long)number);
}

void neomm__config_print_value(enum neomm__config_type type, const void *field, char *to,
                               size_t size)
{
    switch (type) {
    case NEOMM__CONFIG_SIZE:
    case NEOMM__CONFIG_LIMIT:
        print_size(field, to, size);
        break;
    case NEOMM__CONFIG_BOOL:
        neomm__format(to, size, "%s", *(const bool *)field ? "yes" : "no");
        break;
    case NEOMM__CONFIG_NUMBER:
        neomm__format(to, size, "%u", *(const uint32_t *)field);
        break;
    case NEOMM__CONFIG_PROFILE:
        neomm__format(to, size, "%s", neomm__profile_name[*(const uint32_t *)field]);
        break;
    case NEOMM__CONFIG_WHERE:
        neomm__format(to, size, "%s", neomm__huge_name[*(const uint32_t *)field]);
        break;
    case NEOMM__CONFIG_CODEC:
        neomm__format(to, size, "%s", neomm__compression_name[*(const uint32_t *)field]);
        break;
    case NEOMM__CONFIG_OVERCOMMIT:
        neomm__format(to, size, "%s", neomm__overcommit_name[*(const uint32_t *)field]);
        break;
    default:
        neomm__format(to, size, "%s", (const char *)field);
    }
}
