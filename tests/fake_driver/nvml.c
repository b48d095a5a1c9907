/* A stand-in for NVIDIA's libnvidia-ml.so.1, as far as autotune and nvidia-ml-py call it.
 *
 * state.h says how its answers are written. CUDA_VISIBLE_DEVICES means nothing to it, as it means
 * nothing to NVML. What it takes from NVIDIA's documentation it cannot prove: it shows how a
 * program takes such answers, not that a driver gives them.
 */
#include "state.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum {
    OK = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    GPU_IS_LOST = 15,
    ARGUMENT_VERSION_MISMATCH = 25,
};

/* What a handle points to: the whole of a GPU, or one of its parts. */
typedef struct {
    char name[NAME_SIZE], whole[NAME_SIZE];
    bool is_part;
} Device;

static Device devices[MAX_GPUS][1 + MAX_PARTS]; /* first the whole */

static void name_devices(void) {
    for (int gpu = 0; gpu < MAX_GPUS; gpu++)
        for (int i = 0; i <= MAX_PARTS; i++) {
            Device *device = &devices[gpu][i];
            snprintf(device->whole, sizeof device->whole, "gpu%d", gpu);
            device->is_part = i > 0;
            if (device->is_part)
                snprintf(device->name, sizeof device->name, "gpu%d.%d", gpu, i - 1);
            else
                memcpy(device->name, device->whole, sizeof device->name);
        }
}

static bool is_handle(const Device *device) {
    return device >= &devices[0][0] && device <= &devices[MAX_GPUS - 1][MAX_PARTS];
}

/* ---- beginnings of calls: each tells whether the call goes on */

static bool ask_library(Call *call, const char *function) {
    start(call, function, "-");
    if (!call->code && opened <= 0)
        call->code = UNINITIALIZED;
    return !call->code;
}

static bool ask(Call *call, const char *function, const Device *device) {
    bool is_valid = is_handle(device);
    start(call, function, is_valid ? device->name : "-");
    if (call->code)
        return false;
    if (opened <= 0)
        call->code = UNINITIALIZED;
    else if (!is_valid)
        call->code = INVALID_ARGUMENT;
    else if (!has_subject(&call->state, device->name)) /* it was there before */
        call->code = device->is_part ? INVALID_ARGUMENT : GPU_IS_LOST;
    return !call->code;
}

static bool ask_whole(Call *call, const char *function, const Device *device) {
    if (ask(call, function, device) && device->is_part)
        call->code = NOT_SUPPORTED;
    return !call->code;
}

/* ---- ends of calls */

static int give_text(Call *call, const char *text, char *out, unsigned size) {
    if (!call->code && !text)
        call->code = NOT_SUPPORTED;
    if (!call->code && strlen(text) >= size)
        call->code = INSUFFICIENT_SIZE;
    if (!call->code)
        strcpy(out, text);
    return finish(call);
}

static int give_number(Call *call, const char *key, double otherwise, double scale, unsigned *out) {
    double value = call->code ? 0 : number(call, key, otherwise, NOT_SUPPORTED);
    if (!call->code)
        *out = (unsigned)(value * scale);
    return finish(call);
}

/* ---- the library */

EXPORT const char *nvmlErrorString(int code) {
    return code == OK ? "Success" : "An error of the fake driver";
}

EXPORT int nvmlInitWithFlags(unsigned flags) {
    Call call;
    (void)flags;
    start(&call, __func__, "-");
    if (!call.code) {
        name_devices();
        open_library();
    }
    return finish(&call);
}

EXPORT int nvmlShutdown(void) {
    Call call;
    if (ask_library(&call, __func__))
        opened--;
    return finish(&call);
}

EXPORT int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    Call call;
    ask_library(&call, __func__);
    return give_text(&call, fact(&call.state, "host", "driver"), out, size);
}

EXPORT int nvmlSystemGetNVMLVersion(char *out, unsigned size) {
    Call call;
    ask_library(&call, __func__);
    return give_text(&call, fact(&call.state, "host", "nvml"), out, size);
}

/* ---- which GPUs there are */

static unsigned gpu_count(const State *state) {
    unsigned count = 0;
    for (unsigned gpu = 0; gpu < MAX_GPUS; gpu++)
        if (has_subject(state, devices[gpu][0].name))
            count = gpu + 1; /* one that was lost between others still counts */
    return count;
}

EXPORT int nvmlDeviceGetCount_v2(unsigned *count) {
    Call call;
    if (ask_library(&call, __func__))
        *count = gpu_count(&call.state);
    return finish(&call);
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, const Device **out) {
    Call call;
    if (ask(&call, __func__, index < MAX_GPUS ? devices[index] : NULL))
        *out = devices[index];
    return finish(&call);
}

static const Device *device_with(const char *uuid) {
    State state;
    read_state(&state);
    for (int i = 0; i < MAX_GPUS * (1 + MAX_PARTS); i++) {
        const Device *device = &devices[0][0] + i;
        const char *own = fact(&state, device->name, "uuid");
        if (own && !strcmp(own, uuid))
            return device;
    }
    return NULL;
}

EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, const Device **out) {
    Call call;
    const Device *device = device_with(uuid);
    bool goes_on = device ? ask(&call, __func__, device) : ask_library(&call, __func__);
    if (goes_on && !device)
        call.code = NOT_FOUND;
    *out = device;
    return finish(&call);
}

EXPORT int nvmlDeviceGetUUID(const Device *device, char *out, unsigned size) {
    Call call;
    ask(&call, __func__, device);
    return give_text(&call, fact(&call.state, call.device, "uuid"), out, size);
}

EXPORT int nvmlDeviceGetName(const Device *device, char *out, unsigned size) {
    Call call;
    ask(&call, __func__, device);
    return give_text(&call, fact(&call.state, call.device, "name"), out, size);
}

typedef struct {
    char short_bus_id[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
} PciInfo;
_Static_assert(sizeof(PciInfo) == 68, "as nvidia-ml-py has it");

EXPORT int nvmlDeviceGetPciInfo_v3(const Device *device, PciInfo *out) {
    Call call;
    ask(&call, __func__, device);
    memset(out, 0, sizeof *out);
    return give_text(&call, fact(&call.state, call.device, "bus"), out->bus_id, 32);
}

/* ---- parts */

EXPORT int nvmlDeviceGetMigMode(const Device *device, unsigned *now, unsigned *pending) {
    Call call;
    if (ask_whole(&call, __func__, device) && !fact(&call.state, call.device, "mig"))
        call.code = NOT_SUPPORTED;
    int code = give_number(&call, "mig", 0, 1, now);
    *pending = *now;
    return code;
}

EXPORT int nvmlDeviceGetMaxMigDeviceCount(const Device *device, unsigned *count) {
    Call call;
    ask_whole(&call, __func__, device);
    return give_number(&call, "mig", 0, MAX_PARTS, count); /* none where MIG is off */
}

EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(const Device *device, unsigned index,
                                               const Device **out) {
    Call call;
    if (ask_whole(&call, __func__, device)) {
        const Device *part = index < MAX_PARTS ? device + 1 + index : NULL;
        if (!part)
            call.code = INVALID_ARGUMENT;
        else if (!has_subject(&call.state, part->name))
            call.code = NOT_FOUND;
        *out = part;
    }
    return finish(&call);
}

EXPORT int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(const Device *part, const Device **out) {
    Call call;
    if (ask(&call, __func__, part) && !part->is_part)
        call.code = INVALID_ARGUMENT;
    for (int gpu = 0; gpu < MAX_GPUS && !call.code; gpu++)
        if (!strcmp(devices[gpu][0].name, part->whole))
            *out = devices[gpu];
    return finish(&call);
}

/* ---- memory, and who holds it */

static double held_by_processes(const Call *call) {
    double sum = 0;
    for (int i = 0; i < call->state.count; i++) {
        const Line *line = &call->state.lines[i];
        bool is_process = !strcmp(line->key, "process") || !strcmp(line->key, "graphics");
        double bytes;
        if (is_process && !strcmp(line->subject, call->device) &&
            sscanf(line->value, "%*u %lf", &bytes) == 1)
            sum += bytes;
    }
    return sum;
}

typedef struct {
    uint64_t total, reserved, free, used;
} Memory;

static Memory memory_of(Call *call) {
    double total = number(call, "total", 0, NOT_SUPPORTED);
    double reserved = number(call, "reserved", 0, NOT_SUPPORTED);
    double used = number(call, "used", 0, NOT_SUPPORTED) + held_by_processes(call);
    double left = total - reserved - used;
    return (Memory){(uint64_t)total, (uint64_t)reserved, left > 0 ? (uint64_t)left : 0,
                    (uint64_t)used};
}

typedef struct {
    uint64_t total, free, used;
} MemoryV1;

EXPORT int nvmlDeviceGetMemoryInfo(const Device *device, MemoryV1 *out) {
    Call call;
    if (ask(&call, __func__, device)) {
        Memory memory = memory_of(&call);
        *out = (MemoryV1){memory.total, memory.free, memory.used + memory.reserved};
    }
    return finish(&call);
}

typedef struct {
    unsigned version;
    Memory memory;
} MemoryV2;
_Static_assert(sizeof(MemoryV2) == 0x28, "the version word has the size in it");

EXPORT int nvmlDeviceGetMemoryInfo_v2(const Device *device, MemoryV2 *out) {
    Call call;
    if (ask(&call, __func__, device) && out->version != 0x02000028)
        call.code = ARGUMENT_VERSION_MISMATCH;
    if (!call.code)
        out->memory = memory_of(&call);
    return finish(&call);
}

typedef struct {
    unsigned pid;
    uint64_t bytes;
    unsigned gpu_instance, compute_instance;
} Process;
_Static_assert(sizeof(Process) == 24, "as nvidia-ml-py has it");

static int give_processes(Call *call, const char *key, unsigned *count, Process *out) {
    unsigned room = *count, found = 0;
    for (int i = 0; i < call->state.count && !call->code; i++) {
        const Line *line = &call->state.lines[i];
        unsigned pid;
        double bytes;
        if (strcmp(line->subject, call->device) || strcmp(line->key, key))
            continue;
        int told = sscanf(line->value, "%u %lf", &pid, &bytes);
        if (found++ < room)
            out[found - 1] = (Process){pid, told == 2 ? (uint64_t)bytes : UINT64_MAX, ~0u, ~0u};
    }
    if (!call->code) {
        *count = found;
        call->code = found > room ? INSUFFICIENT_SIZE : OK;
    }
    return finish(call);
}

EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(const Device *device, unsigned *count,
                                                   Process *out) {
    Call call;
    ask(&call, __func__, device);
    return give_processes(&call, "process", count, out);
}

EXPORT int nvmlDeviceGetComputeRunningProcesses_v2(const Device *device, unsigned *count,
                                                   Process *out) {
    Call call;
    ask(&call, __func__, device);
    return give_processes(&call, "process", count, out);
}

EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v3(const Device *device, unsigned *count,
                                                    Process *out) {
    Call call;
    ask_whole(&call, __func__, device);
    return give_processes(&call, "graphics", count, out);
}

/* ---- sensors, which a part does not have */

EXPORT int nvmlDeviceGetTemperature(const Device *device, unsigned sensor, unsigned *celsius) {
    Call call;
    (void)sensor;
    ask_whole(&call, __func__, device);
    return give_number(&call, "temperature", 40, 1, celsius);
}

typedef struct {
    unsigned version, sensor, celsius;
} Temperature;
_Static_assert(sizeof(Temperature) == 0x0c, "the version word has the size in it");

EXPORT int nvmlDeviceGetTemperatureV(const Device *device, Temperature *out) {
    Call call;
    if (ask_whole(&call, __func__, device) && out->version != 0x0100000c)
        call.code = ARGUMENT_VERSION_MISMATCH;
    return give_number(&call, "temperature", 40, 1, &out->celsius);
}

EXPORT int nvmlDeviceGetPowerUsage(const Device *device, unsigned *milliwatts) {
    Call call;
    ask_whole(&call, __func__, device);
    return give_number(&call, "power", 70, 1000, milliwatts);
}

EXPORT int nvmlDeviceGetClockInfo(const Device *device, unsigned kind, unsigned *mhz) {
    Call call;
    (void)kind;
    ask_whole(&call, __func__, device);
    return give_number(&call, "clock", 1410, 1, mhz);
}

static int give_reasons(Call *call, unsigned long long *out) {
    unsigned reasons = 0;
    int code = give_number(call, "reasons", 0, 1, &reasons);
    *out = reasons;
    return code;
}

EXPORT int nvmlDeviceGetCurrentClocksEventReasons(const Device *device, unsigned long long *out) {
    Call call;
    ask_whole(&call, __func__, device);
    return give_reasons(&call, out);
}

EXPORT int nvmlDeviceGetCurrentClocksThrottleReasons(const Device *device,
                                                     unsigned long long *out) {
    Call call;
    ask_whole(&call, __func__, device);
    return give_reasons(&call, out);
}
