// Package frames keeps the frames of one connection for a while, for somebody who has asked to see
// them. It is where the transports that have frames, the streams over them and the page that shows
// them meet; each of them knows a part of what a frame means.
package frames
