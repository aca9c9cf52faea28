// Of the listening sockets that a worker process is born with (birth.h): which of them are what the process before said
// of them. Main thread, at the start, before anything is opened.
//
// The master keeps what a worker process sends it, under the address that it writes beside it. Whoever has taken over a
// worker process, which has given up root's rights, must not have the next one, which begins with them, serve at
// another address than the configuration's: a control API that asks for no token, since it stands under unix:PATH, at
// a port of all the world; a listener for trusted proxies likewise; or the real address left to somebody else. So what
// counts is what the kernel says of the socket.
//
// What this does not prevent, since the process that was taken over had the true sockets in its hands:
// - A process that it leaves behind has them, too: it accepts some of the connections, and can change the sockets'
//   options, or shut them down, at any time.
// - It can close them, and bind its own at the same address, where its user may: above 1024, beside sockets that were
//   opened at a reload (SO_REUSEPORT asks for one user), or in the place of a unix socket in a directory of its own.
//   Such a one is what it is said to be.
// - It can hold an address, so that the next process can't listen there and does not start. That is said in the log.
// Against all three helps to end every process of that user before the service is started again, with a new master
// (systemctl restart does both). Without `user`, the process before had every right that this one has.
#pragma once

#include "main/birth.h"

namespace belfry {

// The true ones of `kept`. The others are closed, one error line says how many, why the first, and what to do, and
// `refused` is their number. True is a stream socket that listens at the address which it is kept under (port 0: any
// port of it), over TCP and, for IPv6, over nothing else; in this process's network namespace; of a unix path, the one
// that is there now, where the kernel tells: it needs CAP_NET_ADMIN, which root has as a rule and in a container not
// always. They are non-blocking after that. A true one whose path is gone is closed too, for a new one is of more use,
// but that is no lie and not counted. What systemd lent, known by an empty address, is taken for true (the master has
// looked at it, and lets no worker process say so: master_workers.cc), and so is the same socket once more.
std::vector<kept_address> kept_sockets_true(const std::vector<kept_address> *kept, uint64_t *refused);

} // namespace belfry
