/* A seccomp notify plugin for the tests, by crun's interface: it answers getppid with a number and the length of the container's name, leaves getuid
   to the kernel, answers sync by itself, as it could later, and fails for getgid. What it is told it writes to the bundle's file `told`, and its end
   to `stopped`. */
#include <errno.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

struct conf {
  const char *root, *name, *bundle, *config;
};

struct state {
  char bundle[4096];
  long answer;
};

#ifndef PLUGIN_VERSION
#define PLUGIN_VERSION 1
#endif

int run_oci_seccomp_notify_version(void) { return PLUGIN_VERSION; }

static void say(const struct state *s, const char *file, const char *text) {
  char path[5000];
  snprintf(path, sizeof path, "%s/%s", s->bundle, file);
  FILE *f = fopen(path, "a");
  if (f) {
    fputs(text, f);
    fclose(f);
  }
}

int run_oci_seccomp_notify_start(void **opaque, struct conf *conf, size_t size) {
  char text[9000];
#ifdef PLUGIN_FAILS
  return -EDOM;
#endif
  struct state *s = calloc(1, sizeof *s);
  if (!s || size < sizeof *conf)
    return -EINVAL;
  snprintf(s->bundle, sizeof s->bundle, "%s", conf->bundle);
  s->answer = 7777000 + (long)strlen(conf->name);
  snprintf(text, sizeof text, "%s\n%s\n%s\n%s\n", conf->root, conf->name, conf->bundle, conf->config);
  say(s, "told", text);
  *opaque = s;
  return 0;
}

#ifndef PLUGIN_EMPTY
int run_oci_seccomp_notify_handle_request(void *opaque, struct seccomp_notif_sizes *sizes, struct seccomp_notif *req,
                                          struct seccomp_notif_resp *resp, int fd, int *handled) {
  struct state *s = opaque;
  if (sizes->seccomp_notif < sizeof *req)
    return -EINVAL;
  switch (req->data.nr) {
  case __NR_getppid:
    resp->val = s->answer;
    *handled = 1;
    return 0;
  case __NR_sync:
    resp->val = s->answer + 1;
    resp->id = req->id;
    ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, resp);
    *handled = 2;
    return 0;
  case __NR_getuid:
    *handled = 3;
    return 0;
  case __NR_getgid:
    return -EDOM;
  default:
    *handled = 0;
    return 0;
  }
}
#endif

int run_oci_seccomp_notify_stop(void *opaque) {
  say(opaque, "stopped", "stopped\n");
  return 0;
}
