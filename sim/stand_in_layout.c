/* A stand-in for the layout while src/arch is not there.
 * SPDX-License-Identifier: MIT */
#include "machine.h"
neomm_status neomm_layout_default(enum neomm_format format, neomm_paddr_t ram_end,
                                  struct neomm_layout *layout)
{
    (void)ram_end;
    *layout = (struct neomm_layout){.format = format, .user_base = 0x10000};
#if UINTPTR_MAX > 0xffffffffu
    layout->user_limit = 0x7ffffffff000;
    layout->direct = (struct neomm_area){0xffff888000000000, (size_t)64 << 40, 0};
    layout->window = (struct neomm_area){0xffffc90000000000, (size_t)512 << 30, 0};
    layout->slots = (struct neomm_area){0xffffe90000000000, (size_t)4 << 20, 0};
#else
    layout->user_limit = 0xc0000000;
    layout->direct = (struct neomm_area){0xc0000000, 896u << 20, 0};
    layout->window = (struct neomm_area){0xf8000000, 100u << 20, 0};
    layout->slots = (struct neomm_area){0xff000000, 4u << 20, 0};
#endif
    return NEOMM_OK;
}
