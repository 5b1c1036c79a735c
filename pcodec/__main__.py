from pcodec.cli import main

main()
