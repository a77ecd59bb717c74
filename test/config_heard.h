/* The configuration's parser, with all that it says.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_TEST_CONFIG_HEARD_H
#define NEOMM_TEST_CONFIG_HEARD_H

#include "ktap.h"

#include <neomm/config.h>

#include <string.h>

#define MESSAGES    64
#define MESSAGE_MAX 256

/* All messages of one run of the parser. */
struct heard {
    uint32_t count, errors;
    char text[MESSAGES][MESSAGE_MAX];
    bool torn; /* a message was not a line of fewer than MESSAGE_MAX bytes */
};

static inline void hear(void *context, enum neomm_config_level level, const char *text)
{
    struct heard *heard = context;
    size_t length = strnlen(text, MESSAGE_MAX);
    heard->torn |= length == MESSAGE_MAX || strchr(text, '\n') != NULL;
    heard->errors += level == NEOMM_CONFIG_ERROR;
    if (heard->count < MESSAGES && length < MESSAGE_MAX)
        memcpy(heard->text[heard->count], text, length + 1);
    heard->count++;
}

static inline uint32_t parse(struct ktap *t, struct neomm_config *config, struct heard *heard,
                             const char *text, size_t length, bool strict)
{
    uint32_t errors = UINT32_MAX;
    memset(heard, 0, sizeof(*heard));
    uint32_t messages = neomm_config_parse(config, "f", text, length, strict, hear, heard, &errors);
    EXPECT_EQ(t, messages, heard->count);
    EXPECT_EQ(t, errors, heard->errors);
    EXPECT(t, !heard->torn);
    return messages;
}

/* Parses over the defaults. */
static inline uint32_t parse_new(struct ktap *t, struct neomm_config *config, struct heard *heard,
                                 const char *text)
{
    neomm_config_default(config);
    return parse(t, config, heard, text, strlen(text), false);
}

static inline void expect_message(struct ktap *t, const struct heard *heard, uint32_t index,
                                  const char *want)
{
    if (index < heard->count && strcmp(heard->text[index], want) == 0)
        return;
    ktap_note(t, "message %u: %s", index, index < heard->count ? heard->text[index] : "(none)");
    ktap_note(t, "     wanted: %s", want);
    ktap_fail(t, __FILE__, __LINE__, "the message is the wanted one");
}

static inline bool same_size(struct neomm_config_size a, uint64_t bytes, uint32_t percent)
{
    return a.bytes == bytes && a.percent == percent;
}

#endif
