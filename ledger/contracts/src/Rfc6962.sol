// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Inclusion in a Merkle tree of RFC 6962.
/// @notice Leaves are prefixed with 0x00 and inner nodes with 0x01, so that neither passes for the other.
/// The direction of each step follows from the index and the size of the tree (RFC 9162, 2.1.3.2): a leaf
/// has exactly one position, and none outside the counted tree.
library Rfc6962 {
    /// @notice Hash of a leaf.
    /// @param data the leaf's bytes.
    /// @return the 32-byte leaf hash.
    function leafHash(bytes memory data) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(bytes1(0x00), data));
    }

    /// @notice Hash of an inner node.
    /// @param left the left child.
    /// @param right the right child.
    /// @return the 32-byte node hash.
    function nodeHash(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(bytes1(0x01), left, right));
    }

    /// @notice Whether a leaf lies at an index of the tree with this root and size.
    /// @param root the tree's root.
    /// @param size number of leaves.
    /// @param index position of the leaf, from 0.
    /// @param leaf the leaf's hash.
    /// @param path sibling hashes, from the leaf up.
    /// @return true only if the path is complete and exact.
    function included(bytes32 root, uint256 size, uint256 index, bytes32 leaf, bytes32[] calldata path)
        internal
        pure
        returns (bool)
    {
        if (index >= size) return false;
        uint256 position = index;
        uint256 last = size - 1;
        bytes32 node = leaf;
        for (uint256 i = 0; i < path.length; ++i) {
            if (last == 0) return false;
            if (position & 1 == 1 || position == last) {
                node = nodeHash(path[i], node);
                while (position & 1 == 0 && position != 0) {
                    position >>= 1;
                    last >>= 1;
                }
            } else {
                node = nodeHash(node, path[i]);
            }
            position >>= 1;
            last >>= 1;
        }
        return last == 0 && node == root;
    }
}
