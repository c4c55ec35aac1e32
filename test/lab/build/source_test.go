package build

import (
	"context"
	"debug/buildinfo"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// clone is a repository of the test with one program, in whose test/lab the builder works.
func clone(t *testing.T, b *builder) component {
	t.Helper()
	root := t.TempDir()
	b.source = filepath.Join(root, "test", "lab")
	write(t, filepath.Join(b.source, "modules", "README.md"), "of the lab")
	write(t, filepath.Join(root, "go.mod"), "module example.test/repository\n\ngo 1.26.0\n")
	write(t, filepath.Join(root, "cmd", "hi", "main.go"),
		"package main\n\nimport \"example.test/repository/words\"\n\nvar version = \"unset\"\n\nfunc main() { println(words.Hello, version) }\n")
	write(t, filepath.Join(root, "words", "words.go"),
		"package words\n\nimport _ \"embed\"\n\n//go:embed hello.txt\nvar Hello string\n")
	write(t, filepath.Join(root, "words", "hello.txt"), "hello")
	write(t, filepath.Join(root, "other", "other.go"), "package other\n")
	return component{
		name: "hi", repository: true, version: "1.0.0", ldflags: []string{"-X main.version=v1.0.0"},
		programs: []program{{"hi", "example.test/repository/cmd/hi"}},
	}
}

// A program of the repository is built anew when a file of it changes, and only then.
func TestProgramOfTheRepository(t *testing.T) {
	t.Parallel()
	b := testBuilder(t)
	c := clone(t, b)
	root := b.directory(c)
	made := func() (built, bool) {
		e, err := b.component(context.Background(), c)
		require.NoError(t, err)
		return e, e.made
	}
	first, fresh := made()
	assert.True(t, fresh)
	out, err := exec.Command(first.program(c, c.programs[0]).Path).CombinedOutput()
	require.NoError(t, err)
	assert.Equal(t, "hello v1.0.0\n", string(out))

	write(t, filepath.Join(root, "other", "other.go"), "package other // changed\n")
	write(t, filepath.Join(root, "words", "words_test.go"), "package words\n")
	write(t, filepath.Join(root, "cmd", "hi", "README.md"), "of the program\n")
	_, fresh = made()
	assert.False(t, fresh, "the program does not read these files")

	for _, file := range []struct{ name, text string }{
		{"words/hello.txt", "good day"},
		{"words/words.go", "package words\n\nimport _ \"embed\"\n\n// Hello is said.\n//\n//go:embed hello.txt\nvar Hello string\n"},
		{"words/more.go", "package words\n"},
		{"go.mod", "module example.test/repository\n\ngo 1.25.0\n"},
	} {
		write(t, filepath.Join(root, filepath.FromSlash(file.name)), file.text)
		_, fresh = made()
		assert.True(t, fresh, file.name)
	}

	write(t, filepath.Join(root, "words", "hello.go"), "package words\n\nimport \"example.test/absent\"\n")
	_, err = b.component(context.Background(), c)
	assert.ErrorContains(t, err, "example.test/absent")
}

// A module that lacks a file is built from a copy that has it; the program's record of its modules is the same wherever it
// was built, and nothing of the copy stays.
func TestModuleThatLacksAFile(t *testing.T) {
	t.Parallel()
	const module = "golang.org/x/sync" // a small one, in the version that the repository has
	listed, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", module).Output()
	require.NoError(t, err)
	version := strings.TrimPrefix(strings.TrimSpace(string(listed)), "v")
	sums, err := os.ReadFile(filepath.Join("..", "..", "..", "go.sum"))
	require.NoError(t, err)
	var sum strings.Builder
	for line := range strings.Lines(string(sums)) {
		if strings.HasPrefix(line, module+" v"+version+" ") || strings.HasPrefix(line, module+" v"+version+"/") {
			sum.WriteString(line)
		}
	}
	require.NotEmpty(t, sum.String())
	build := func() (built, component) {
		b := testBuilder(t)
		c := component{
			name: "hello", dir: "modules/hello", module: module, version: version,
			added: map[string]string{
				"hello/main.go":   "package main\n\nimport (\n\t_ \"embed\"\n\n\t_ \"" + module + "/errgroup\"\n)\n\n//go:embed hello.txt\nvar hello string\n\nfunc main() { println(hello) }\n",
				"hello/hello.txt": "hello",
			},
			programs: []program{{"hello", module + "/hello"}},
		}
		write(t, filepath.Join(b.source, c.dir, "go.mod"), "module example.test/hello\n\ngo 1.26.0\n\ntool "+c.programs[0].pkg+"\n\nrequire "+module+" v"+version+"\n")
		write(t, filepath.Join(b.source, c.dir, "go.sum"), sum.String())
		e, err := b.component(context.Background(), c)
		require.NoError(t, err)
		return e, c
	}
	one, c := build()
	path := one.program(c, c.programs[0]).Path
	out, err := exec.Command(path).CombinedOutput()
	require.NoError(t, err)
	assert.Equal(t, "hello\n", string(out))
	info, err := buildinfo.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, module, info.Main.Path)
	left, err := filepath.Glob(filepath.Join(one.dir, "*"))
	require.NoError(t, err)
	assert.Equal(t, []string{filepath.Join(one.dir, "bin"), filepath.Join(one.dir, entryName)}, left)

	two, _ := build()
	assert.Equal(t, one.Files, two.Files, "two builds of one source differ")
}
