/* Words of memory_manager.conf: named, compared, and guessed when misspelt.
 * SPDX-License-Identifier: MIT */
#ifndef NEOMM_BASE_CONFIG_WORDS_H
#define NEOMM_BASE_CONFIG_WORDS_H

#include <neomm/config.h>
#include <neomm/heap_debug.h>
#include <neomm/vmm.h>

#define NEOMM__OVERCOMMITS 3u

extern const char *const neomm__profile_name[NEOMM_HEAP_PROFILES];
extern const char *const neomm__overcommit_name[NEOMM__OVERCOMMITS];
extern const char *const neomm__huge_name[NEOMM_HUGES];
extern const char *const neomm__compression_name[NEOMM_COMPRESSIONS];

/* Is text[0, length) the word? */
bool neomm__config_is_word(const char *text, size_t length, const char *word);

/* The candidate that the text was probably meant to be: at most two letters left out, added,
 * wrong or swapped with their neighbour, and not most of the word. NULL if none is near. */
const char *neomm__config_closest(const char *text, size_t length, const char *const *candidates,
                                  size_t count);

#endif
