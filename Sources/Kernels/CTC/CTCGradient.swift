import BatchLossFormulas
import BatchLossKernelInterface

/// Writes scale · (softmax − posteriors) into every gradient row, or −scale · posteriors where the input is
/// log-probabilities.
///
/// Exponentials of many classes are computed once more: kept, they would cross memory three times.
@inline(__always)
func ctcGradient<V: KernelVector>(
  _ arguments: CTCArguments<V.Lane>, _ workspace: CTCWorkspace, _ gradient: UnsafeMutablePointer<V.Lane>,
  as: V.Type
) {
  let columns = arguments.columns
  let posteriors = (arguments.workspace + workspace.emissions).assumingMemoryBound(to: V.Lane.self)
  let blanks = (arguments.workspace + workspace.blankEmissions).assumingMemoryBound(to: Double.self)
  let offsets = (arguments.workspace + workspace.frameOffsets).assumingMemoryBound(to: Double.self)
  let sums = (arguments.workspace + workspace.frameSums).assumingMemoryBound(to: Double.self)
  let tables = (arguments.workspace + workspace.table).assumingMemoryBound(to: V.Lane.self)
  let copy = (arguments.workspace + workspace.rowCopy).assumingMemoryBound(to: V.Lane.self)
  for frame in 0..<arguments.frames {
    let input = arguments.input + frame * arguments.inputStride
    let output = gradient + frame * arguments.gradientStride
    let row = arguments.streams ? copy : output
    if arguments.isNormalized {
      ctcFill(row, columns, as: V.self)
    } else if workspace.tableWidth > 0 {
      let table = tables + frame * workspace.tableWidth
      let factor = V(lane: arguments.scale / V.Lane(sums[frame]))
      forEachVector(from: 0, to: columns, destination: row, streams: false, as: V.self) { index, _ in
        V.load(table + index) * factor
      }
    } else {
      let offset = V(lane: V.Lane(offsets[frame]))
      let factor = V(lane: arguments.scale / V.Lane(sums[frame]))
      forEachVector(from: 0, to: columns, destination: row, streams: false, as: V.self) {
        V.exp(nonPositive: loadLanes(input + $0, $1, as: V.self) - offset) * factor
      }
    }
    ctcSubtractPosteriors(
      row, arguments.labels, arguments.labelCount, posteriors + frame * workspace.width)
    row[arguments.blank] -= V.Lane(blanks[frame])
    if arguments.streams {
      forEachVector(from: 0, to: columns, destination: output, streams: true, as: V.self) {
        loadLanes(row + $0, $1, as: V.self)
      }
    }
  }
}

/// A label that occurs several times is subtracted as often, in the order of the target.
@inline(__always)
private func ctcSubtractPosteriors<Lane: KernelScalar>(
  _ row: UnsafeMutablePointer<Lane>, _ labels: UnsafePointer<Int32>, _ count: Int,
  _ posteriors: UnsafePointer<Lane>
) {
  for index in 0..<count { row[Int(labels[index])] -= posteriors[index] }
}

@inline(__always)
private func ctcFill<V: KernelVector>(_ row: UnsafeMutablePointer<V.Lane>, _ columns: Int, as: V.Type) {
  forEachVector(from: 0, to: columns, destination: row, streams: false, as: V.self) { _, _ in V(0) }
}
