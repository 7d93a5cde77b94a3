package statpage

// Sizes of a page, and where the header has what.
const (
	HeaderSize = headerSize
	RecordSize = recordSize

	HeadVersion  = headVersion
	HeadRecord   = headRecord
	HeadCapacity = headCapacity
)

// Capacity returns how many records there are.
func Capacity() int { return len(own.chunks) * chunkRecords }
