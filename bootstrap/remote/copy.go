package remote

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	scp "github.com/bramvdbogaerde/go-scp"
)

// Copy implements Runner. One script does it all, as root where asked: it has scp receive the bytes under a private
// name beside the destination, gives mode and owner, fsyncs and renames, so that the destination is either the old file
// or the whole new one. A copy that is cut off takes its private file away with it.
func (h *Host) Copy(ctx context.Context, f File) error {
	if !path.IsAbs(f.Path) || strings.ContainsAny(f.Path, "\n\x00") || path.Clean(f.Path) != f.Path {
		return h.fail("copy", Permanent, "", fmt.Errorf("%q is not a clean absolute path", f.Path))
	}
	var nonce [8]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return h.fail("copy", Permanent, "", err)
	}
	in, send := io.Pipe()
	receive, out := io.Pipe()
	talked := make(chan error, 1)
	go func() {
		err := talk(send, receive, f)
		_ = send.Close() // scp tells a whole file from a part of one
		_ = receive.Close()
		talked <- err
	}()
	_, err := h.Run(ctx, Command{Script: copyScript(f, hex.EncodeToString(nonce[:])), Root: f.Root, Stdin: in, Stdout: out})
	_ = in.Close()
	_ = out.Close()
	said := <-talked // f.Content is not used any more
	var content contentError
	var exit *ExitError
	var perr *Error
	switch {
	case errors.As(said, &content):
		return h.fail("copy", Permanent, "", fmt.Errorf("%s: %w", f.Path, content))
	case err == nil && said == nil:
		return nil
	case errors.As(err, &exit) && said != nil && len(exit.Result.Stderr) == 0:
		return h.fail("copy", Permanent, "", fmt.Errorf("%s: %w", f.Path, said)) // scp tells the sender, not stderr
	case errors.As(err, &exit):
		return h.fail("copy", Permanent, "", fmt.Errorf("%s: %w", f.Path, exit))
	case errors.As(err, &perr):
		return h.fail(opOf(perr), perr.Kind, perr.Hint, fmt.Errorf("%s: %w", f.Path, perr.Err))
	case err != nil:
		return err
	}
	return h.fail("copy", Passing, "", fmt.Errorf("%s: %w", f.Path, said))
}

// opOf names what failed: a run that was cut off was a copy here.
func opOf(e *Error) string {
	if e.Op == "run" {
		return "copy"
	}
	return e.Op
}

// contentError says that the caller's content is not what was announced.
type contentError struct{ error }

// talk speaks the sending side of scp's protocol: one file and no more.
func talk(to io.Writer, from io.Reader, f File) error {
	if err := answer(from); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(to, "C0600 %d content\n", f.Size); err != nil {
		return err
	}
	if err := answer(from); err != nil {
		return err
	}
	content := &counted{r: f.Content, progress: f.Progress}
	n, err := io.Copy(to, io.LimitReader(content, f.Size))
	switch {
	case content.err != nil:
		return contentError{content.err}
	case err != nil:
		return err
	case n < f.Size:
		return contentError{fmt.Errorf("the content ended after %d of %d bytes", n, f.Size)}
	}
	if more, _ := f.Content.Read(make([]byte, 1)); more > 0 {
		return contentError{fmt.Errorf("the content is longer than %d bytes", f.Size)}
	}
	if err := scp.Ack(to); err != nil {
		return err
	}
	return answer(from)
}

// answer reads one of scp's answers.
func answer(from io.Reader) error {
	_, err := scp.ParseResponse(from, nil)
	if err != nil {
		return fmt.Errorf("scp: %s", strings.TrimSpace(err.Error()))
	}
	return nil
}

// copyScript receives and places the file.
func copyScript(f File, nonce string) string {
	s := "set -eu\ndir=" + quote(path.Dir(f.Path)) + " name=" + quote(path.Base(f.Path)) + "\n" + fmt.Sprintf(`new="$dir/.catamaran-%s"
umask 022
mkdir -p "$dir"
[ ! -d "$dir/$name" ] || { echo "it is a folder" >&2; exit 1; }
trap 'rm -f "$new"' EXIT
trap 'exit 1' HUP INT TERM PIPE
umask 077
scp -qt "$new"
[ "$(stat -c %%s "$new")" = %d ] || { echo "the file came incomplete" >&2; exit 1; }
`, nonce, f.Size)
	if f.Root {
		s += "chown 0:0 \"$new\"\n"
	}
	return s + fmt.Sprintf("chmod %o \"$new\"\nsync \"$new\"\nmv -fT \"$new\" \"$dir/$name\"\nsync \"$dir\"\n", f.Mode.Perm())
}

// counted reports how much was read.
type counted struct {
	r        io.Reader
	n        int64
	err      error
	progress func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	if c.progress != nil && n > 0 {
		c.progress(c.n)
	}
	return n, err
}
