package flow

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestTimes(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return epoch().Add(time.Duration(s) * time.Second) }
	steps := times{{at(0), 1}, {at(5), 2}, {at(10), 4}, {at(40), 5}, {at(45), 6}}

	when, ok := steps.stored(3)
	assert.True(t, ok)
	assert.Equal(t, at(10), when, "seen together with number 4")
	_, ok = steps.stored(7)
	assert.False(t, ok)

	begin, end := steps.silence(at(12), at(50))
	assert.Equal(t, []time.Time{at(10), at(40)}, []time.Time{begin, end}, "with what was silent before")
	begin, end = steps.silence(at(1), at(20))
	assert.Equal(t, []time.Time{at(10), at(20)}, []time.Time{begin, end}, "the rest is the next fault's")
	begin, end = steps.silence(at(41), at(45))
	assert.Equal(t, []time.Time{at(40), at(45)}, []time.Time{begin, end})
	begin, end = steps.silence(at(50), at(60))
	assert.Equal(t, begin, end, "nothing was seen")
}
