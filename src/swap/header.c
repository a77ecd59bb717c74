/* Headers of swap areas: what is taken, and what is said of the others.
 * SPDX-License-Identifier: MIT
 *
 * The header is the first page of the device, as mkswap of util-linux writes it and swapon of
 * Linux reads it; numbers have the byte order of the machine:
 *
 *       0  room for a boot block
 *    1024  u32 version, 1
 *    1028  u32 last page; the area is pages 1 to last
 *    1032  u32 number of bad pages, at most 637
 *    1036  u8[16] UUID
 *    1052  char[16] label
 *    1068  padding
 *    1536  u32[] bad pages
 *    4086  "SWAPSPACE2"
 *
 * Who saves a machine's memory to the area puts another signature in that place, and TuxOnIce one
 * at the start of the page. With larger pages the signature is at the end of a larger first page.
 */
#include "swap_priv.h"

enum {
    AT_VERSION = 1024,
    AT_LAST_PAGE = 1028,
    AT_BAD_PAGES = 1032,
    AT_UUID = 1036,
    AT_LABEL = 1052,
    AT_BAD_PAGE = 1536,
    AT_SIGNATURE = 4086,
    BAD_PAGES_MAX = (AT_SIGNATURE - AT_BAD_PAGE) / 4,
    PAGE_KIB = NEOMM_PAGE_SIZE / 1024
};

enum { MADE_FOR_US, VERSION_0, HIBERNATED };

struct signature {
    const char *text;
    uint8_t length;
    uint8_t means;
    const char *who;
};

static const struct signature signatures[] = {
    {"SWAPSPACE2", 10, MADE_FOR_US, NULL},
    {"SWAP-SPACE", 10, VERSION_0, NULL},
    {"S1SUSPEND", 9, HIBERNATED, "Linux"},
    {"LINHIB0001", 10, HIBERNATED, "Linux"},
    {"S2SUSPEND", 9, HIBERNATED, "uswsusp"},
    {"ULSUSPEND", 9, HIBERNATED, "uswsusp"},
    {"\xed\xc3\x02\xe9\x98\x56\xe5\x0c", 8, HIBERNATED, "TuxOnIce"},
};

#define SIGNATURES (sizeof(signatures) / sizeof(signatures[0]))
#define TUXONICE   (&signatures[SIGNATURES - 1])

/* The byte order that this is not. */
#define VERSION_TURNED 0x01000000u

static uint32_t number_at(const uint8_t *header, size_t at)
{
    uint32_t number;
    memcpy(&number, header + at, sizeof(number));
    return number;
}

static const struct signature *signature_of(const uint8_t *page)
{
    for (size_t i = 0; i < SIGNATURES; i++)
        if (memcmp(page + AT_SIGNATURE, signatures[i].text, signatures[i].length) == 0)
            return &signatures[i];
    return NULL;
}

/* The status, once the log has a line that begins with the device. */
#define REFUSE(status, ...) (neomm__log(NEOMM_LOG_ERROR, "swap: %s: " __VA_ARGS__), (status))

/* What stands in the place of a signature, in a page of `kib`. */
static neomm_status check_signature(const struct neomm_block_device *device,
                                    const struct signature *found, uint32_t kib)
{
    if (found->means == HIBERNATED)
        return REFUSE(NEOMM_E_BUSY,
                      "holds a hibernation image of %s; resume it, or give it up with mkswap",
                      device->name, found->who);
    if (found->means == VERSION_0)
        return REFUSE(NEOMM_E_UNSUPPORTED,
                      "has version 0 of the format (SWAP-SPACE); run mkswap again", device->name);
    if (kib != PAGE_KIB)
        return REFUSE(NEOMM_E_UNSUPPORTED,
                      "made for pages of %u KiB, not of %u; run mkswap -p 4096", device->name, kib,
                      (unsigned)PAGE_KIB);
    return NEOMM_OK;
}

static neomm_status check_numbers(const struct neomm_block_device *device, const uint8_t *header)
{
    uint32_t version = number_at(header, AT_VERSION), last = number_at(header, AT_LAST_PAGE);
    uint32_t bad = number_at(header, AT_BAD_PAGES);
    if (version == VERSION_TURNED)
        return REFUSE(NEOMM_E_UNSUPPORTED,
                      "made on a machine of the other byte order; run mkswap on one like this",
                      device->name);
    if (version != 1)
        return REFUSE(NEOMM_E_UNSUPPORTED, "has version %u of the format, not 1; run mkswap",
                      device->name, version);
    if (last == 0)
        return REFUSE(NEOMM_E_CORRUPT, "the header says that there are no pages; run mkswap",
                      device->name);
    if (last >= device->pages)
        return REFUSE(NEOMM_E_CORRUPT,
                      "the header says that page %u is the last, of a device of %u; run mkswap",
                      device->name, last, device->pages);
    if (bad > BAD_PAGES_MAX)
        return REFUSE(
            NEOMM_E_CORRUPT,
            "the header says that there are %u bad pages, and has room for %u; run mkswap",
            device->name, bad, (unsigned)BAD_PAGES_MAX);
    return NEOMM_OK;
}

/* Looks for a signature where machines with larger pages write it; the header's frame is used up.
 * What cannot be read says nothing. */
static neomm_status check_larger(struct neomm *root, struct neomm_block_device *device,
                                 neomm_frame_t frame)
{
    const uint8_t *page = neomm_direct_pointer(root, neomm_frame_paddr(frame));
    for (uint32_t pages = 2; pages <= NEOMM__SWAP_HEADER_PAGES && pages <= device->pages;
         pages *= 2) {
        if (neomm__swap_move(device, NEOMM_BLOCK_READ, pages - 1, 1, frame) != NEOMM_OK)
            continue;
        const struct signature *found = signature_of(page);
        if (found)
            return check_signature(device, found, pages * PAGE_KIB);
    }
    return REFUSE(NEOMM_E_CORRUPT,
                  "no swap signature; run mkswap, if nothing on it is needed any more",
                  device->name);
}

static bool is_tuxonice(const uint8_t *header)
{
    return memcmp(header, TUXONICE->text, TUXONICE->length) == 0;
}

neomm_status neomm__swap_header_check(struct neomm *root, struct neomm_block_device *device,
                                      neomm_frame_t frame)
{
    const uint8_t *header = neomm_direct_pointer(root, neomm_frame_paddr(frame));
    const struct signature *found = is_tuxonice(header) ? TUXONICE : signature_of(header);
    if (!found)
        return check_larger(root, device, frame);
    neomm_status status = check_signature(device, found, PAGE_KIB);
    return status == NEOMM_OK ? check_numbers(device, header) : status;
}

void neomm__swap_header_facts(const uint8_t *header, struct neomm__swap_area *area)
{
    area->slots = number_at(header, AT_LAST_PAGE) + 1;
    memcpy(area->uuid, header + AT_UUID, sizeof(area->uuid));
    memcpy(area->label, header + AT_LABEL, sizeof(area->label) - 1);
}

neomm_status neomm__swap_header_bad_pages(const uint8_t *header, struct neomm__swap_area *area)
{
    uint32_t count = number_at(header, AT_BAD_PAGES);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t page = number_at(header, AT_BAD_PAGE + 4 * (size_t)i);
        if (page == 0)
            return REFUSE(NEOMM_E_CORRUPT, "the header lists itself as a bad page; run mkswap -c",
                          area->device->name);
        if (page >= area->slots)
            return REFUSE(NEOMM_E_CORRUPT,
                          "the header lists page %u as bad, and the last is %u; run mkswap -c",
                          area->device->name, page, area->slots - 1);
        if (!neomm__swap_slot_retire(area, page))
            return REFUSE(NEOMM_E_CORRUPT, "the header lists page %u as bad twice; run mkswap -c",
                          area->device->name, page);
    }
    return NEOMM_OK;
}
