/* Words of memory_manager.conf: compared, and guessed when misspelt.
 * SPDX-License-Identifier: MIT */
#include "config_words.h"

const char *const neomm__profile_name[NEOMM_HEAP_PROFILES] = {
    [NEOMM_HEAP_FAST] = "fast",
    [NEOMM_HEAP_DEFAULT] = "default",
    [NEOMM_HEAP_GUARDED] = "guarded",
    [NEOMM_HEAP_HARDENED] = "hardened",
};

const char *const neomm__huge_name[NEOMM_HUGES] = {
    [NEOMM_HUGE_ADVISE] = "advise",
    [NEOMM_HUGE_ALWAYS] = "always",
    [NEOMM_HUGE_NEVER] = "never",
};

const char *const neomm__compression_name[NEOMM_COMPRESSIONS] = {
    [NEOMM_COMPRESSION_OFF] = "off",
    [NEOMM_COMPRESSION_LZ4] = "lz4",
    [NEOMM_COMPRESSION_DENSE] = "dense",
};

const char *const neomm__overcommit_name[NEOMM__OVERCOMMITS] = {
    [NEOMM_OVERCOMMIT_HEURISTIC] = "heuristic",
    [NEOMM_OVERCOMMIT_ALWAYS] = "always",
    [NEOMM_OVERCOMMIT_REFUSE] = "refuse",
};

#define LONGEST 31
#define FAR     255u

bool neomm__config_is_word(const char *text, size_t length, const char *word)
{
    size_t i = 0;
    while (i < length && word[i] && text[i] == word[i])
        i++;
    return i == length && word[i] == '\0';
}

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* The edit distance with transpositions of neighbours (optimal string alignment), row by row:
 * row[0] is of the text up to here, row[1] and row[2] of one and two letters less. */
static unsigned distance(const char *text, size_t length, const char *word)
{
    uint8_t row[3][LONGEST + 1] = {{0}};
    size_t letters = 0;
    for (; word[letters]; letters++)
        if (letters == LONGEST)
            return FAR;
    if (length > LONGEST)
        return FAR;
    for (size_t j = 0; j <= letters; j++)
        row[0][j] = (uint8_t)j;
    for (size_t i = 1; i <= length; i++) {
        for (size_t j = 0; j <= letters; j++) {
            row[2][j] = row[1][j];
            row[1][j] = row[0][j];
        }
        row[0][0] = (uint8_t)i;
        for (size_t j = 1; j <= letters; j++) {
            unsigned best = row[1][j - 1] + (text[i - 1] != word[j - 1] ? 1u : 0u);
            best = least(best, least(row[1][j], row[0][j - 1]) + 1u);
            if (i > 1 && j > 1 && text[i - 1] == word[j - 2] && text[i - 2] == word[j - 1])
                best = least(best, row[2][j - 2] + 1u);
            row[0][j] = (uint8_t)best;
        }
    }
    return row[0][letters];
}

const char *neomm__config_closest(const char *text, size_t length, const char *const *candidates,
                                  size_t count)
{
    const char *closest = NULL;
    unsigned nearest = 3;
    for (size_t i = 0; i < count; i++) {
        unsigned far = distance(text, length, candidates[i]);
        if (far < nearest && 2 * far < length) {
            nearest = far;
            closest = candidates[i];
        }
    }
    return closest;
}
