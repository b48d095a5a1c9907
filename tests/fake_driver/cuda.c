/* A stand-in for NVIDIA's libcuda.so.1, as far as it tells which GPUs a process may use.
 *
 * state.h says how its answers are written. It heeds CUDA_VISIBLE_DEVICES (numbers, beginnings of
 * GPU UUIDs, whole MIG UUIDs; the list ends at what does not exist, and one GPU twice is none at
 * all) and CUDA_DEVICE_ORDER (by `speed`, or PCI_BUS_ID). A GPU that is cut into parts stands for
 * its first part, and a process gets one part at most, as with the drivers 450 to 525.
 */
#include "state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OK = 0,
    INVALID_VALUE = 1,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
};

typedef struct {
    char name[NAME_SIZE], whole[NAME_SIZE]; /* of a whole GPU the same */
} Device;

typedef struct {
    Device devices[MAX_GPUS];
    int count;
} Devices;

static void add(Devices *devices, const char *name, const char *whole) {
    if (devices->count < MAX_GPUS) {
        Device *device = &devices->devices[devices->count++];
        snprintf(device->name, sizeof device->name, "%s", name);
        snprintf(device->whole, sizeof device->whole, "%s", whole);
    }
}

static bool is_part(const Device *device) {
    return strcmp(device->name, device->whole) != 0;
}

static const char *text(const State *state, const char *device, const char *key) {
    const char *value = fact(state, device, key);
    return value ? value : "";
}

/* ---- the order */

static bool goes_before(const State *state, const Device *one, const Device *other) {
    const char *order = getenv("CUDA_DEVICE_ORDER");
    if (order && !strcmp(order, "PCI_BUS_ID"))
        return strcmp(text(state, one->name, "bus"), text(state, other->name, "bus")) < 0;
    return strtod(text(state, one->name, "speed"), NULL) >
           strtod(text(state, other->name, "speed"), NULL);
}

static void list_gpus(const State *state, Devices *gpus) {
    gpus->count = 0;
    for (int gpu = 0; gpu < MAX_GPUS; gpu++) {
        char name[NAME_SIZE];
        snprintf(name, sizeof name, "gpu%d", gpu);
        if (!has_subject(state, name))
            continue;
        add(gpus, name, name);
        for (int i = gpus->count - 1; i > 0; i--) { /* to its place among those before it */
            Device *before = &gpus->devices[i - 1], moved = *before;
            if (!goes_before(state, &before[1], before))
                break;
            before[0] = before[1];
            before[1] = moved;
        }
    }
}

/* ---- the choice */

static void add_first_part(const State *state, const char *whole, Devices *chosen) {
    for (int part = 0; part < MAX_PARTS; part++) {
        char name[NAME_SIZE];
        snprintf(name, sizeof name, "%.19s.%d", whole, part);
        if (has_subject(state, name)) {
            add(chosen, name, whole);
            return;
        }
    }
}

static void add_gpu(const State *state, const Device *gpu, Devices *chosen) {
    if (strtod(text(state, gpu->name, "mig"), NULL) > 0)
        add_first_part(state, gpu->name, chosen);
    else
        add(chosen, gpu->name, gpu->name);
}

static void add_part_of_uuid(const State *state, const char *uuid, Devices *chosen) {
    for (int i = 0; i < state->count; i++) {
        const Line *line = &state->lines[i];
        const char *dot = strchr(line->subject, '.');
        if (dot && !strcmp(line->key, "uuid") && !strcmp(line->value, uuid)) {
            char whole[NAME_SIZE];
            snprintf(whole, sizeof whole, "%.*s", (int)(dot - line->subject), line->subject);
            add(chosen, line->subject, whole);
            return;
        }
    }
}

static void add_gpu_of_uuid(const State *state, const Devices *gpus, const char *uuid,
                            Devices *chosen) {
    const Device *found = NULL;
    int matches = 0;
    for (int i = 0; i < gpus->count; i++)
        if (!strncmp(text(state, gpus->devices[i].name, "uuid"), uuid, strlen(uuid))) {
            found = &gpus->devices[i];
            matches++;
        }
    if (matches == 1)
        add_gpu(state, found, chosen);
}

/* Add what one word of CUDA_VISIBLE_DEVICES names. */
static void add_named(const State *state, const Devices *gpus, const char *word, Devices *chosen) {
    char *end;
    long index = strtol(word, &end, 10);
    if (!strncmp(word, "MIG-", 4))
        add_part_of_uuid(state, word, chosen);
    else if (!strncmp(word, "GPU-", 4))
        add_gpu_of_uuid(state, gpus, word, chosen);
    else if (end != word && !*end && index >= 0 && index < gpus->count)
        add_gpu(state, &gpus->devices[index], chosen);
}

static bool has_twice(const Devices *devices) {
    for (int i = 0; i < devices->count; i++)
        for (int j = 0; j < i; j++)
            if (!strcmp(devices->devices[i].name, devices->devices[j].name))
                return true;
    return false;
}

static void keep_one_part(Devices *devices) {
    int kept = 0;
    for (int i = 0; i < devices->count && !(kept && is_part(&devices->devices[0])); i++)
        if (!i || !is_part(&devices->devices[i]))
            devices->devices[kept++] = devices->devices[i];
    devices->count = kept;
}

static void choose(const State *state, Devices *chosen) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    Devices gpus;
    list_gpus(state, &gpus);
    chosen->count = 0;
    if (visible) {
        char words[1024], *rest = words, *word;
        snprintf(words, sizeof words, "%s", visible);
        for (int before = -1; chosen->count > before && (word = strsep(&rest, ","));) {
            before = chosen->count;
            add_named(state, &gpus, word, chosen);
        }
    } else {
        for (int i = 0; i < gpus.count; i++)
            add_gpu(state, &gpus.devices[i], chosen);
    }
    if (has_twice(chosen))
        chosen->count = 0;
    keep_one_part(chosen);
}

/* ---- calls */

static bool ask(Call *call, const char *function, int ordinal, Device *device) {
    State state;
    Devices devices;
    read_state(&state);
    choose(&state, &devices);
    bool exists = ordinal >= 0 && ordinal < devices.count;
    if (exists)
        *device = devices.devices[ordinal];
    start(call, function, exists ? device->name : "-");
    if (!call->code && opened <= 0)
        call->code = NOT_INITIALIZED;
    if (!call->code && !exists)
        call->code = INVALID_DEVICE;
    return !call->code;
}

EXPORT int cuInit(unsigned flags) {
    Call call;
    Devices devices;
    (void)flags;
    start(&call, __func__, "-");
    choose(&call.state, &devices);
    if (!call.code && !devices.count)
        call.code = NO_DEVICE;
    if (!call.code)
        open_library();
    return finish(&call);
}

EXPORT int cuDeviceGetCount(int *count) {
    Call call;
    Devices devices;
    start(&call, __func__, "-");
    choose(&call.state, &devices);
    if (!call.code && opened <= 0)
        call.code = NOT_INITIALIZED;
    if (!call.code)
        *count = devices.count;
    return finish(&call);
}

EXPORT int cuDeviceGet(int *device, int ordinal) {
    Call call;
    Device found = {"", ""};
    if (ask(&call, __func__, ordinal, &found))
        *device = ordinal;
    return finish(&call);
}

EXPORT int cuDeviceGetName(char *out, int size, int device) {
    Call call;
    Device found = {"", ""};
    if (ask(&call, __func__, device, &found))
        snprintf(out, (size_t)size, "%s", text(&call.state, found.name, "name"));
    return finish(&call);
}

EXPORT int cuDeviceGetPCIBusId(char *out, int size, int device) {
    Call call;
    Device found = {"", ""};
    unsigned domain, bus, slot, function;
    if (ask(&call, __func__, device, &found)) {
        const char *id = text(&call.state, found.whole, "bus");
        if (sscanf(id, "%x:%x:%x.%x", &domain, &bus, &slot, &function) == 4)
            snprintf(out, (size_t)size, "%04x:%02x:%02x.%x", domain, bus, slot, function);
        else
            call.code = INVALID_VALUE;
    }
    return finish(&call);
}

static int give_uuid(Call *call, const char *device, unsigned char *out) {
    const char *digits = call->code ? "" : text(&call->state, device, "uuid");
    int count = 0;
    if (!call->code && strlen(digits) < 4)
        call->code = INVALID_VALUE;
    if (!call->code)
        digits += 4; /* "GPU-" or "MIG-" */
    while (!call->code && count < 16) {
        unsigned byte;
        digits += *digits == '-';
        if (sscanf(digits, "%2x", &byte) != 1)
            call->code = INVALID_VALUE;
        out[count++] = (unsigned char)byte;
        digits += 2;
    }
    return finish(call);
}

EXPORT int cuDeviceGetUuid(unsigned char *out, int device) {
    Call call;
    Device found = {"", ""};
    ask(&call, __func__, device, &found);
    return give_uuid(&call, found.whole, out);
}

EXPORT int cuDeviceGetUuid_v2(unsigned char *out, int device) {
    Call call;
    Device found = {"", ""};
    ask(&call, __func__, device, &found);
    return give_uuid(&call, found.name, out);
}
