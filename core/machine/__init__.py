"""This machine and this process: processors, threads, what a process shares."""
