package process

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// child starts a process that runs until the test ends.
func child(t *testing.T) (*exec.Cmd, ID) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	id, err := Of(cmd.Process.Pid)
	require.NoError(t, err)
	return cmd, id
}

func TestPidThatIsUsedAgainIsAnotherProcess(t *testing.T) {
	t.Parallel()
	_, id := child(t)
	require.True(t, id.Alive())
	for name, other := range map[string]ID{
		"another start time": {PID: id.PID, Start: id.Start - 1, Boot: id.Boot},
		"another boot":       {PID: id.PID, Start: id.Start, Boot: "00000000-0000-0000-0000-000000000000"},
	} {
		assert.False(t, other.Alive(), name)
		assert.ErrorIs(t, other.Signal(syscall.SIGKILL), ErrGone, name)
		assert.NoError(t, other.End(time.Second), name)
		assert.NoError(t, other.Wait(context.Background()), name)
	}
	assert.False(t, ID{}.Alive())
	assert.ErrorIs(t, ID{}.Signal(syscall.SIGKILL), ErrGone)
	assert.True(t, id.Alive(), "none of these signals may have reached it")
}

func TestZombieHasEnded(t *testing.T) {
	t.Parallel()
	_, id := child(t) // nobody waits for it before the test ends
	require.NoError(t, id.End(30*time.Second))
	assert.False(t, id.Alive())
	_, err := Of(id.PID)
	assert.ErrorIs(t, err, ErrGone)
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	_, id := child(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	assert.ErrorIs(t, id.Wait(ctx), context.DeadlineExceeded)
	assert.True(t, id.Alive())
}

func TestByProgramFindsReplacedPrograms(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "program")
	sleep, err := os.ReadFile("/bin/sleep")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(program, sleep, 0o755))
	cmd := exec.Command(program, "1000")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	id, err := Of(cmd.Process.Pid)
	require.NoError(t, err)
	found, err := ByProgram(program)
	require.NoError(t, err)
	assert.Equal(t, []ID{id}, found)
	require.NoError(t, os.Remove(program))
	found, err = ByProgram(program)
	require.NoError(t, err)
	assert.Equal(t, []ID{id}, found)
}

func TestNamespaced(t *testing.T) {
	t.Parallel()
	ns := Namespaced(os.Getpid())
	require.NotEmpty(t, ns)
	assert.Equal(t, os.Getpid(), ns[len(ns)-1])
	assert.Nil(t, Namespaced(-1))
}
