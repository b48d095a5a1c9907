/* What the fake libraries answer.
 *
 * FAKE_DRIVER names a text file that is read anew at each call; replace it by rename, so that no
 * call sees half of it. A line is SUBJECT KEY VALUE. Where a subject has a key twice, the later
 * line counts, but for "process" and "graphics", of which all count.
 *
 *   host log PATH                  to that file each call adds a line: FUNCTION DEVICE CODE; one
 *                                  that hangs without end adds one with -1 when it begins to
 *   host driver 570.86.15          a version; also: nvml
 *
 *   gpu0 uuid GPU-...              a GPU is there if it has a line; also: name, bus, speed
 *   gpu0 total 16e9                bytes; also: used, reserved
 *   gpu0 temperature 41            also: power (watts), clock (MHz), reasons (bits), mig (0 or 1)
 *   gpu0 used steps 1e9 2e9        the first time that a function tells it, the second; then as last
 *   gpu0 used ramp 0 1e9 500 9e9   milliseconds since the library was opened and values: straight
 *                                  lines between them
 *   gpu0 power n/a                 not supported
 *   gpu0 process 4242 1e9          it computes and holds so much beside `used`; "-" does not tell
 *   gpu0 graphics 4243 1e8         it draws and does so
 *   gpu0.2 total 5e9               a part of a GPU whose `mig` is 1
 *
 *   fault FUNCTION DEVICE code 15 3 4   the 3rd to 4th call of this function for this device fail;
 *                                       without numbers all do
 *   fault FUNCTION DEVICE hang 300      each call takes 300 ms more; without a number, until the
 *                                       line is gone
 *   fault FUNCTION DEVICE crash         the process dies
 *
 * FUNCTION and DEVICE of a fault may be "*". Calls for no device have the device "-".
 */
#ifndef STATE_H
#define STATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#define EXPORT __attribute__((visibility("default")))
#define MAX_GPUS 16
#define MAX_PARTS 7 /* of one GPU, as of NVIDIA's largest */
#define MAX_LINES 256
#define NAME_SIZE 32 /* of "gpu15.6" and its like; as much as any two numbers need */

typedef struct {
    char subject[NAME_SIZE], key[64], value[256];
} Line;

typedef struct {
    Line lines[MAX_LINES];
    int count;
} State;

/* One call of a library's function, from start() to finish(). */
typedef struct {
    State state;
    const char *function;
    char device[NAME_SIZE];
    long number; /* of the calls of this function for this device, from 1 */
    int code;    /* what it will return */
} Call;

extern atomic_int opened; /* how often the library was opened and not closed */

void open_library(void);

void read_state(State *state);
bool has_subject(const State *state, const char *subject);
const char *fact(const State *state, const char *subject, const char *key); /* or NULL */

/* Read the state, count the call, and do what its faults say. */
void start(Call *call, const char *function, const char *device);
/* A number of the call's device; where it is "n/a", the call fails with `not_supported`. */
double number(Call *call, const char *key, double otherwise, int not_supported);
/* Write the call to the log and return its code. */
int finish(const Call *call);

/* Begin anew, as if the library had just been loaded. */
EXPORT void fake_forget(void);

#endif
