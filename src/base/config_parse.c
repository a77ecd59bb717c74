/* The parser of memory_manager.conf.
 * SPDX-License-Identifier: MIT
 *
 * One pass, line by line. Whatever is wrong with a line is reported and the line ignored, so
 * every mistake of a file is reported, and no mistake spoils what stands elsewhere.
 */
#include "config_priv.h"

#include "bits.h"
#include "config_words.h"
#include "format.h"
#include "memory.h"

#include <stdarg.h>

/* Sections of a file by index: those without a name by their kind, where [process.default] has the
 * place of the processes', then the caches, then the processes. */
#define CACHES       NEOMM__CONFIG_SECTIONS
#define PROCESSES    (CACHES + NEOMM_CONFIG_CACHES)
#define SECTIONS     (PROCESSES + NEOMM_CONFIG_PROCESSES)
#define SECTION_NONE SECTIONS       /* in front of the first section line */
#define SECTION_SKIP (SECTIONS + 1) /* behind a section line that was refused */

struct parser {
    struct neomm_config *config;
    const char *name;
    bool strict;
    neomm_config_message_fn *message;
    void *context;
    uint32_t messages, errors;

    const char *text; /* the line, without its end */
    size_t length;
    uint32_t line;    /* its number, from 1 */
    uint32_t section; /* index, or SECTION_* */
    /* Where something was given in this file, 0: nowhere yet. */
    uint32_t section_line[SECTIONS];
    uint32_t key_line[SECTIONS][NEOMM__CONFIG_ROWS];
};

/* ---- messages ---- */

/* A part of a line, made fit to be shown in a message. */
struct shown {
    char text[36];
};

static struct shown show(const char *text, size_t length)
{
    struct shown shown;
    size_t at = 0;
    for (; at < length && at < 32; at++)
        shown.text[at] = text[at] >= ' ' && text[at] <= '~' ? text[at] : '?';
    for (size_t dots = 0; at < length && dots < 3; dots++)
        shown.text[32 + dots] = '.';
    shown.text[at < length ? 35 : at] = '\0';
    return shown;
}

/* One message about offset `at` of the line. */
NEOMM_PRINTF(4, 5)
static void complain(struct parser *parser, enum neomm_config_level level, size_t at,
                     const char *format, ...)
{
    char line[NEOMM__LINE_MAX];
    va_list arguments;
    if (parser->strict)
        level = NEOMM_CONFIG_ERROR;
    parser->messages++;
    parser->errors += level == NEOMM_CONFIG_ERROR;
    if (!parser->message)
        return;
    size_t used =
        neomm__format(line, sizeof(line), "%.96s:%u:%zu: %s: ", parser->name, parser->line, at + 1,
                      level == NEOMM_CONFIG_ERROR ? "error" : "warning");
    va_start(arguments, format);
    neomm__vformat(line + used, sizeof(line) - used, format, arguments);
    va_end(arguments);
    parser->message(parser->context, level, line);
}

/* " (did you mean 'x'?)", or nothing. */
struct hint {
    char text[64];
};

static struct hint hint(const char *word)
{
    struct hint hint = {""};
    if (word)
        neomm__format(hint.text, sizeof(hint.text), " (did you mean '%s'?)", word);
    return hint;
}

/* ---- parts of a line ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static size_t skip_blanks(const struct parser *parser, size_t at)
{
    while (at < parser->length && is_blank(parser->text[at]))
        at++;
    return at;
}

/* The end of [from, to) without the blanks there. */
static size_t trim(const struct parser *parser, size_t from, size_t to)
{
    while (to > from && is_blank(parser->text[to - 1]))
        to--;
    return to;
}

/* The first `c` of [from, length), or the length. */
static size_t find(const struct parser *parser, size_t from, char c)
{
    while (from < parser->length && parser->text[from] != c)
        from++;
    return from;
}

/* ---- sections ---- */

static enum neomm__config_section section_kind(uint32_t section)
{
    if (section < NEOMM__CONFIG_SECTIONS)
        return (enum neomm__config_section)section;
    return section < PROCESSES ? NEOMM__CONFIG_CACHE : NEOMM__CONFIG_PROCESS;
}

/* The structure with the section's values. */
static void *section_values(const struct parser *parser)
{
    struct neomm_config *config = parser->config;
    uint32_t section = parser->section;
    if (section < NEOMM__CONFIG_PROCESS)
        return config;
    if (section == NEOMM__CONFIG_PROCESS)
        return &config->process_default;
    return section < PROCESSES ? (void *)&config->cache[section - CACHES]
                               : (void *)&config->process[section - PROCESSES];
}

/* A section with a name notes which keys it has. */
static void note_key(const struct parser *parser, uint32_t r)
{
    uint32_t section = parser->section;
    if (section >= PROCESSES)
        parser->config->process[section - PROCESSES].set |= 1u << r;
    else if (section >= CACHES)
        parser->config->cache[section - CACHES].set |= 1u << r;
}

/* Sections of one kind that have names, which their structures begin with. */
struct named {
    const char *word;
    char *first; /* structure */
    size_t size; /* of one */
    uint32_t *count, most;
    uint32_t section; /* of the first */
};

/* The index of the section of this name, which is made if it is new. */
static uint32_t named_section(struct parser *parser, const struct named *named, size_t from,
                              size_t to)
{
    size_t length = to - from;
    uint32_t i = 0;
    if (length == 0 || length >= NEOMM_CONFIG_NAME_MAX) {
        complain(parser, NEOMM_CONFIG_ERROR, from, "a %s name has 1 to %d bytes", named->word,
                 NEOMM_CONFIG_NAME_MAX - 1);
        return SECTION_SKIP;
    }
    while (i < *named->count &&
           !neomm__config_is_word(parser->text + from, length, named->first + i * named->size))
        i++;
    if (i == named->most) {
        complain(parser, NEOMM_CONFIG_ERROR, from, "more than %u %s sections", named->most,
                 named->word);
        return SECTION_SKIP;
    }
    if (i == *named->count) {
        memset(named->first + i * named->size, 0, named->size);
        memcpy(named->first + i * named->size, parser->text + from, length);
        ++*named->count;
    }
    return named->section + i;
}

_Static_assert(offsetof(struct neomm_config_cache, name) == 0, "the name comes first");
_Static_assert(offsetof(struct neomm_config_process, name) == 0, "the name comes first");

/* `[word "name"]`: word from `word` to `word_end`, name from `from` to `to`. */
static uint32_t section_with_name(struct parser *parser, size_t word, size_t word_end, size_t from,
                                  size_t to)
{
    struct neomm_config *config = parser->config;
    const struct named named[] = {
        {"cache", config->cache[0].name, sizeof(config->cache[0]), &config->caches,
         NEOMM_CONFIG_CACHES, CACHES},
        {"process", config->process[0].name, sizeof(config->process[0]), &config->processes,
         NEOMM_CONFIG_PROCESSES, PROCESSES},
    };
    for (size_t i = 0; i < NEOMM__COUNT_OF(named); i++)
        if (neomm__config_is_word(parser->text + word, word_end - word, named[i].word))
            return named_section(parser, &named[i], from, to);
    complain(parser, NEOMM_CONFIG_ERROR, from - 1,
             "only [process \"NAME\"] and [cache \"NAME\"] take a name");
    return SECTION_SKIP;
}

/* The index of the section called [from, to), which has no name in quotes. */
static uint32_t plain_section(struct parser *parser, size_t from, size_t to)
{
    static const char *const word[] = {"memory",          "swap",   "heap", "vmm", "cache",
                                       "process.default", "process"};
    const char *text = parser->text + from;
    for (uint32_t i = 0; i < NEOMM__CONFIG_SECTIONS; i++)
        if (i != NEOMM__CONFIG_CACHE && neomm__config_is_word(text, to - from, word[i]))
            return i;
    if (neomm__config_is_word(text, to - from, "cache"))
        complain(parser, NEOMM_CONFIG_ERROR, from,
                 "whose? write [cache \"NAME\"], or [heap] for all");
    else if (neomm__config_is_word(text, to - from, "process"))
        complain(parser, NEOMM_CONFIG_ERROR, from,
                 "whose? write [process \"NAME\"] or [process.default]");
    else
        complain(parser, NEOMM_CONFIG_WARNING, from, "unknown section '%s'%s",
                 show(text, to - from).text,
                 hint(neomm__config_closest(text, to - from, word, NEOMM__COUNT_OF(word))).text);
    return SECTION_SKIP;
}

/* Behind a `]` only a comment may follow. */
static bool ends_here(const struct parser *parser, size_t at)
{
    at = skip_blanks(parser, at);
    return at == parser->length || parser->text[at] == '#' || parser->text[at] == ';';
}

/* `[word]` or `[word "name"]`, from `at`, behind the bracket. */
static uint32_t read_section(struct parser *parser, size_t at)
{
    size_t word = skip_blanks(parser, at), name = 0, name_end = 0;
    size_t close = find(parser, word, ']'), quote = find(parser, word, '"');
    size_t word_end = trim(parser, word, close < quote ? close : quote);
    if (quote < close) {
        name = quote + 1;
        name_end = find(parser, name, '"');
        close = skip_blanks(parser, name_end < parser->length ? name_end + 1 : name_end);
    }
    if (close >= parser->length || parser->text[close] != ']') {
        complain(parser, NEOMM_CONFIG_ERROR, close, "missing ']'");
        return SECTION_SKIP;
    }
    if (!ends_here(parser, close + 1)) {
        complain(parser, NEOMM_CONFIG_ERROR, skip_blanks(parser, close + 1),
                 "only a comment may follow ']'");
        return SECTION_SKIP;
    }
    if (name == 0)
        return plain_section(parser, word, word_end);
    return section_with_name(parser, word, word_end, name, name_end);
}

static void section_line(struct parser *parser, size_t at)
{
    uint32_t section = read_section(parser, at + 1);
    parser->section = section;
    if (section >= SECTIONS)
        return;
    if (parser->section_line[section])
        complain(parser, NEOMM_CONFIG_WARNING, at,
                 "this section began in line %u already: the two are taken as one",
                 parser->section_line[section]);
    else
        parser->section_line[section] = parser->line;
}

/* ---- keys ---- */

/* What to say about a key that its section does not have. */
static void unknown_key(struct parser *parser, size_t from, size_t to)
{
    const char *candidate[NEOMM__CONFIG_ROWS];
    const char *text = parser->text + from;
    size_t candidates = 0;
    for (size_t r = 0; r < NEOMM__CONFIG_ROWS; r++) {
        const struct neomm__config_row *row = &neomm__config_row[r];
        if (row->section == section_kind(parser->section))
            candidate[candidates++] = row->key.key;
        else if (neomm__config_is_word(text, to - from, row->key.key)) {
            complain(parser, NEOMM_CONFIG_WARNING, from, "'%s' belongs in section '%s'",
                     row->key.key, row->key.section);
            return;
        }
    }
    complain(parser, NEOMM_CONFIG_WARNING, from, "unknown key '%s'%s", show(text, to - from).text,
             hint(neomm__config_closest(text, to - from, candidate, candidates)).text);
}

/* The number of the row, NEOMM__CONFIG_ROWS if the section has no such key. */
static uint32_t find_row(const struct parser *parser, size_t from, size_t to)
{
    uint32_t r = 0;
    while (r < NEOMM__CONFIG_ROWS &&
           (neomm__config_row[r].section != section_kind(parser->section) ||
            !neomm__config_is_word(parser->text + from, to - from, neomm__config_row[r].key.key)))
        r++;
    return r;
}

/* The end of a value that begins at `from`: a comment is a # behind a blank. */
static size_t value_end(const struct parser *parser, size_t from)
{
    size_t at = from;
    while (at < parser->length &&
           !(parser->text[at] == '#' && at > 0 && is_blank(parser->text[at - 1])))
        at++;
    return trim(parser, from, at);
}

static void set_value(struct parser *parser, uint32_t r, size_t key, size_t from)
{
    const struct neomm__config_row *row = &neomm__config_row[r];
    uint32_t *given = &parser->key_line[parser->section][r];
    struct neomm__config_error error;
    size_t end = value_end(parser, from);
    if (*given)
        complain(parser, NEOMM_CONFIG_WARNING, key, "'%s' was given in line %u already",
                 row->key.key, *given);
    *given = parser->line;
    if (!neomm__config_read_value(row, parser->text + from, end - from,
                                  (char *)section_values(parser) + row->offset, &error)) {
        complain(parser, NEOMM_CONFIG_ERROR, from + error.at, "%s: %s", row->key.key, error.text);
        return;
    }
    note_key(parser, r);
}

static void key_line(struct parser *parser, size_t key)
{
    size_t equals = find(parser, key, '=');
    size_t key_end = trim(parser, key, equals);
    struct shown shown = show(parser->text + key, key_end - key);
    if (equals == parser->length)
        complain(parser, NEOMM_CONFIG_ERROR, key_end, "missing '=' behind '%s'", shown.text);
    else if (key_end == key)
        complain(parser, NEOMM_CONFIG_ERROR, key, "no key in front of '='");
    else if (parser->section == SECTION_NONE)
        complain(parser, NEOMM_CONFIG_ERROR, key, "'%s' stands in front of any section",
                 shown.text);
    else if (parser->section < SECTIONS) {
        uint32_t r = find_row(parser, key, key_end);
        if (r < NEOMM__CONFIG_ROWS)
            set_value(parser, r, key, skip_blanks(parser, equals + 1));
        else
            unknown_key(parser, key, key_end);
    }
}

/* ---- the file ---- */

/* No text has control bytes but tabs; one of them alone may be what ends lines elsewhere. */
static bool is_text(struct parser *parser)
{
    for (size_t i = 0; i < parser->length; i++) {
        unsigned char c = (unsigned char)parser->text[i];
        if ((c < ' ' && c != '\t') || c == 0x7f) {
            complain(parser, NEOMM_CONFIG_ERROR, i, "%s byte 0x%02x in the line",
                     c ? "control" : "NUL", c);
            return false;
        }
    }
    return true;
}

static void parse_line(struct parser *parser)
{
    size_t at = skip_blanks(parser, 0);
    if (!is_text(parser) || at == parser->length || parser->text[at] == '#' ||
        parser->text[at] == ';')
        return;
    if (parser->text[at] == '[')
        section_line(parser, at);
    else
        key_line(parser, at);
}

uint32_t neomm_config_parse(struct neomm_config *config, const char *name, const char *text,
                            size_t length, bool strict, neomm_config_message_fn *message,
                            void *context, uint32_t *errors)
{
    struct parser parser;
    memset(&parser, 0, sizeof(parser));
    parser.config = config;
    parser.name = name;
    parser.strict = strict;
    parser.message = message;
    parser.context = context;
    parser.section = SECTION_NONE;
    size_t at = length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    while (at < length) {
        size_t end = at;
        while (end < length && text[end] != '\n')
            end++;
        parser.text = text + at;
        parser.length = end - at - (end > at && text[end - 1] == '\r');
        parser.line++;
        parse_line(&parser);
        at = end + 1;
    }
    neomm__config_inherit(config);
    if (errors)
        *errors = parser.errors;
    return parser.messages;
}
