/* Two boards with the calls of NVML that the meter uses, and calls for a test to set what they say. */
#include <string.h>

static unsigned long long energy_mj[2] = {1000, 5000};
static unsigned int power_mw[2] = {100000, 200000};
static int boards = 2, counter_works = 1, broken = 0;

void fake_set(int board, unsigned long long energy, unsigned int power) { energy_mj[board] = energy; power_mw[board] = power; }
void fake_mode(int count, int counter, int failure) { boards = count; counter_works = counter; broken = failure; }

int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return code == 15 ? "GPU is lost" : "Not Supported"; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = boards; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **handle) { *handle = &energy_mj[index]; return 0; }
int nvmlDeviceGetName(void *handle, char *name, unsigned int length) { strncpy(name, "Fake H100", length); return 0; }

static int board_of(void *handle) { return (int)((unsigned long long *)handle - energy_mj); }

int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *energy) {
    if (broken) return broken;
    if (!counter_works) return 3;
    *energy = energy_mj[board_of(handle)];
    return 0;
}
int nvmlDeviceGetPowerUsage(void *handle, unsigned int *power) {
    if (broken) return broken;
    *power = power_mw[board_of(handle)];
    return 0;
}
