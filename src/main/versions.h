// belfry -V: the versions of what it was built with and what it runs with. Main thread.
#pragma once

namespace belfry {

// Prints to standard output; an exit status.
int versions_print();

} // namespace belfry
