package openstack

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/catamaran-k8s/catamaran/test/lab/hosts/process"
)

// leftovers are the processes of a cloud, whoever is their parent by now: those that carry the cloud's mark in their environment, and
// those of the sessions that the state file knows, since some programs write over their environment.
func leftovers(dir string, known []Process) ([]process.ID, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var out []process.ID
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if !marked(pid, dir) && !inSession(pid, known) {
			continue
		}
		if id, err := process.Of(pid); err == nil {
			out = append(out, id)
		}
	}
	return out, nil
}

// marked says whether a process was started by the cloud in dir.
func marked(pid int, dir string) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return false // it ended
	}
	return strings.Contains("\x00"+string(env)+"\x00", "\x00"+mark+"="+dir+"\x00")
}

// inSession says whether a process is in one of the sessions. The id of a session is its first process's pid and is not given anew
// while there is a process in it; so a process in a session of that id is the cloud's unless it is older than the session.
func inSession(pid int, known []Process) bool {
	session, ok := sessionOf(pid)
	if !ok {
		return false
	}
	for _, p := range known {
		if p.ID.PID != session {
			continue
		}
		if leader, err := process.Of(session); err == nil && leader != p.ID {
			return false // the pid is another's by now
		}
		id, err := process.Of(pid)
		return err == nil && id.Boot == p.ID.Boot && id.Start >= p.ID.Start
	}
	return false
}

// sessionOf reads a process's session: field 6 of /proc/PID/stat.
func sessionOf(pid int) (int, bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	// the second field is the program's name in parentheses, which may hold anything
	f := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(f) < 4 {
		return 0, false
	}
	session, err := strconv.Atoi(f[3])
	return session, err == nil
}

// end ends the processes of a cloud that has no supervisor any more: first all are asked, then those that are left are killed.
func end(dir string, known []Process, within time.Duration) error {
	deadline := time.Now().Add(within)
	signal := syscall.SIGTERM
	for {
		left, err := leftovers(dir, known)
		if err != nil || len(left) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			if signal == syscall.SIGKILL {
				return fmt.Errorf("%d processes do not end after SIGKILL, process %d first", len(left), left[0].PID)
			}
			signal, deadline = syscall.SIGKILL, time.Now().Add(within)
		}
		for _, id := range left {
			if err := id.Signal(signal); err != nil && !errors.Is(err, process.ErrGone) {
				return err
			}
		}
		time.Sleep(poll)
	}
}
