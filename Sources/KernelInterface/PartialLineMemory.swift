/// Scratch memory for the elements at the end of a streamed row that wait for the next row to fill their cache line.
package enum PartialLineMemory {
  /// Elements of either scalar type, two vectors at least.
  package static var count: Int { 32 }
}
