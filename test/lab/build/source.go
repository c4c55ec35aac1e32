package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// Two kinds of component are not simply built in the folder of their wrapper: programs of this repository, whose key must
// not change with every file of it, and modules that lack a file.

// sources is what one package of the repository, or of a module that it needs, is made from.
type sources struct {
	ImportPath string
	Dir        string
	Standard   bool
	Module     *struct {
		Path, Version, Sum, GoVersion string
		Main                          bool
	}
	GoFiles, SFiles, HFiles, EmbedFiles []string
	DefaultGODEBUG                      string
}

// addSources adds the files of the repository that a component's programs are made from, and the version and checksum of
// every module that they need.
func (b *builder) addSources(ctx context.Context, k *key, c component) error {
	args := []string{"list", "-deps", "-json=ImportPath,Dir,Standard,Module,GoFiles,SFiles,HFiles,EmbedFiles,DefaultGODEBUG"}
	for _, p := range c.programs {
		args = append(args, p.pkg)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.directory(c)
	cmd.Env = append(os.Environ(), c.environment()...)
	out, err := outputOf(ctx, cmd)
	if err != nil {
		return err
	}
	for d := json.NewDecoder(out); ; {
		var p sources
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("go list %s: %w", c.name, err)
		}
		if p.Standard {
			continue
		}
		k.add(p.ImportPath, p.Module.Path, p.Module.Version, p.Module.Sum, p.Module.GoVersion, p.DefaultGODEBUG)
		if !p.Module.Main {
			continue
		}
		for _, name := range slices.Concat(p.GoFiles, p.SFiles, p.HFiles, p.EmbedFiles) {
			if err := k.addFile(name, filepath.Join(p.Dir, name)); err != nil {
				return err
			}
		}
	}
}

// completed copies a component's wrapper and its module side by side into a folder below dir, adds the files that the
// module lacks, and returns the wrapper's copy. Its go.mod leads to the copy of the module, whose content was compared with
// the wrapper's go.sum when it was downloaded.
func (b *builder) completed(ctx context.Context, c component, dir string) (string, error) {
	wrapper, module := filepath.Join(dir, "work", "wrapper"), filepath.Join(dir, "work", "module")
	goIn := func(dir string, args ...string) *exec.Cmd {
		cmd := group(exec.CommandContext(ctx, "go", args...))
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), c.environment()...)
		return cmd
	}
	out, err := outputOf(ctx, goIn(b.directory(c), "mod", "download", "-json", c.module))
	if err != nil {
		return "", err
	}
	var downloaded struct{ Dir string }
	if err := json.NewDecoder(out).Decode(&downloaded); err != nil {
		return "", fmt.Errorf("go mod download %s: %w", c.module, err)
	}
	for to, from := range map[string]string{wrapper: b.directory(c), module: downloaded.Dir} {
		if err := os.MkdirAll(to, 0o755); err != nil {
			return "", err
		}
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			return "", err
		}
	}
	for name, text := range c.added {
		file := filepath.Join(module, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	return wrapper, run(ctx, goIn(wrapper, "mod", "edit", "-replace", c.module+"=../module"))
}
