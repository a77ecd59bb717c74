/* PCI configuration space.
 * SPDX-License-Identifier: MIT */
#include "pci.h"

#include "io.h"

#define ADDRESS   0xcf8
#define DATA      0xcfc
#define ENABLE    0x80000000u
#define BUS_0_END 0x100u /* 32 devices of 8 functions */

uint32_t pci_read(uint32_t place, uint8_t at)
{
    io_out32(ADDRESS, ENABLE | place << 8 | (at & 0xfcu));
    return io_in32(DATA);
}

void pci_write(uint32_t place, uint8_t at, uint32_t value)
{
    io_out32(ADDRESS, ENABLE | place << 8 | (at & 0xfcu));
    io_out32(DATA, value);
}

bool pci_find(uint16_t vendor, uint16_t device, uint32_t *place)
{
    for (*place = 0; *place < BUS_0_END; (*place)++)
        if (pci_read(*place, 0) == ((uint32_t)device << 16 | vendor))
            return true;
    return false;
}
