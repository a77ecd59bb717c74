/* The engines of this architecture.
 * SPDX-License-Identifier: MIT */
#include "paging/tables.h"

#if UINTPTR_MAX > 0xffffffffu
#define ENGINES(X) X(4LEVEL, 4level) X(5LEVEL, 5level)
#else
#define ENGINES(X) X(2LEVEL, 2level) X(PAE, pae)
#endif

#define DECLARE(format, name) extern const struct neomm__engine neomm__engine_##name;
ENGINES(DECLARE)

const struct neomm__engine *neomm__engine_of(enum neomm_format format)
{
#define CHOOSE(id, name)                                                                           \
    if (format == NEOMM_FORMAT_##id)                                                               \
        return &neomm__engine_##name;
    ENGINES(CHOOSE)
    return NULL;
}
