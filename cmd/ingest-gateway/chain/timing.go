package chain

import "time"

// Timing says which times the sink takes. A record with another time is filed under the time of receipt; its own stays in
// the object and in the line.
type Timing struct {
	// MaxAge is how old a record may be (Loki: reject_old_samples_max_age, 1 week).
	MaxAge time.Duration
	// MaxAhead is how far in the future (Loki: creation_grace_period, 10 minutes).
	MaxAhead time.Duration
	// MaxBehind is how far behind the newest of its stream (Loki: half of max_chunk_age, 1 hour).
	MaxBehind time.Duration
}

// maxStreamIdle is how long a label set keeps its place when the tenant's streams are all taken.
const maxStreamIdle = time.Hour

// overflow is where records go whose label set would be one too many.
func overflow() Labels { return Labels{Source: "overflow"} }

// filing decides the stream and the time that records are filed under. It is the writer's memory of what it pushed.
type filing struct {
	timing     Timing
	maxStreams int
	streams    map[Labels]*streamState
}

type streamState struct {
	used   time.Time
	newest int64
}

func newFiling(timing Timing, maxStreams int) *filing {
	return &filing{timing: timing, maxStreams: maxStreams, streams: map[Labels]*streamState{}}
}

// stream returns the labels that records with these labels get. At most maxStreams sets are in use within an hour.
func (f *filing) stream(l Labels, now time.Time) (Labels, *streamState) {
	if s, ok := f.streams[l]; ok {
		s.used = now
		return l, s
	}
	if len(f.streams) >= f.maxStreams {
		for old, s := range f.streams {
			if now.Sub(s.used) > maxStreamIdle {
				delete(f.streams, old)
			}
		}
		if len(f.streams) >= f.maxStreams && l != overflow() {
			return f.stream(overflow(), now)
		}
	}
	s := &streamState{used: now}
	f.streams[l] = s
	return l, s
}

// at is the time that a record is filed under: its own where the sink takes it, otherwise received plus its place in the
// object, so that equal lines stay apart and in order.
func (f *filing) at(s *streamState, own int64, received time.Time, place int) int64 {
	now := received.UnixNano()
	oldest := max(now-int64(f.timing.MaxAge), s.newest-int64(f.timing.MaxBehind))
	at := own
	if own < oldest || own > now+int64(f.timing.MaxAhead) {
		at = now + int64(place)
	}
	s.newest = max(s.newest, at)
	return at
}
