import BatchLossFormulas
import BatchLossKernelInterface

/// A block of rows from a tile in the cache to where it stays.
@inline(never)
private func copyRows<V: KernelVector>(
  _ source: UnsafePointer<V.Lane>, _ sourceStride: Int, _ output: UnsafeMutablePointer<V.Lane>, _ outputStride: Int,
  rows: Int, columns: Int, streams: Bool, as: V.Type
) {
  for row in 0..<rows {
    let (source, output) = (source + row * sourceStride, output + row * outputStride)
    forEachVector(from: 0, to: columns, destination: output, streams: streams, as: V.self) { index, _ in
      V.load(source + index)
    }
  }
}

/// The same for the transposed tile: as many of its rows at a time as a vector has lanes go through scratch memory,
/// so that whole rows are written.
@inline(never)
private func copyColumns<V: KernelVector>(_ transfer: TileTransfer<V.Lane>, as: V.Type) {
  let square = transfer.scratch
  let strip = square + V.laneCount * V.laneCount
  let stripStride = TileTransfer<V.Lane>.stripStride(rows: transfer.rows)
  var column = 0
  while column < transfer.columns {
    var row = 0
    while row < transfer.rows {
      let (source, destination) = (transfer.tile + row * transfer.stride + column, strip + row)
      transpose(square, as: V.self) {
        V.load(source + $0 * transfer.stride)
      } store: {
        $1.store(destination + $0 * stripStride)
      }
      row += V.laneCount
    }
    copyRows(
      UnsafePointer(strip), stripStride, transfer.output + column * transfer.outputStride, transfer.outputStride,
      rows: min(V.laneCount, transfer.columns - column), columns: transfer.rows, streams: transfer.streams,
      as: V.self)
    column += V.laneCount
  }
}

func transferTile<V: KernelVector>(_ transfer: TileTransfer<V.Lane>, as: V.Type) {
  if transfer.isTransposed {
    copyColumns(transfer, as: V.self)
  } else {
    copyRows(
      transfer.tile, transfer.stride, transfer.output, transfer.outputStride, rows: transfer.rows,
      columns: transfer.columns, streams: transfer.streams, as: V.self)
  }
}

/// output = tile + mirrorᵀ, in squares of whole vectors.
@inline(never)
func addMirror<V: KernelVector>(_ sum: MirrorSum<V.Lane>, as: V.Type) {
  var row = 0
  while row < sum.rows {
    var column = 0
    while column < sum.columns {
      let (tile, mirror) = (sum.tile + row * sum.stride + column, sum.mirror + column * sum.stride + row)
      let output = sum.output + row * sum.outputStride + column
      transpose(sum.scratch, as: V.self) {
        V.load(mirror + $0 * sum.stride)
      } store: {
        (V.load(tile + $0 * sum.stride) + $1).store(output + $0 * sum.outputStride)
      }
      column += V.laneCount
    }
    row += V.laneCount
  }
}
