"""What every room uses: command lines, files, images, tables, metrics, parallel work."""
