"""All error codes. Exit statuses, retries and the reference page are derived from this enum."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

__all__ = ["AcdError", "ErrorCode", "ErrorSpec", "ExitStatus"]


class ExitStatus(IntEnum):
    """Exit statuses of every command. 64 and 65 belong to Argo's executor and are never used."""

    OK = 0
    USAGE = 2
    INPUT = 66
    BUG = 70
    TRANSIENT = 75
    CONFIG = 78


@dataclass(frozen=True)
class ErrorSpec:
    """The fixed part of an error: number, exit status, meaning and fix."""

    number: int
    exit_status: ExitStatus
    meaning: str
    fix: str

    @property
    def retryable(self) -> bool:
        """Whether the same command may succeed later without any change."""
        return self.exit_status is ExitStatus.TRANSIENT


_USAGE, _INPUT, _BUG = ExitStatus.USAGE, ExitStatus.INPUT, ExitStatus.BUG
_TRANSIENT, _CONFIG = ExitStatus.TRANSIENT, ExitStatus.CONFIG


class ErrorCode(Enum):
    """1xx settings, 2xx input, 3xx cube, 4xx storage, 5xx runs, 6xx notifications, 7xx Geocube, 9xx bugs."""

    USAGE = ErrorSpec(100, _USAGE, "The command line is wrong.", "Run the command with --help.")
    SETTING_INVALID = ErrorSpec(
        101,
        _CONFIG,
        "A setting has an invalid value.",
        "Set the named setting to a value that the message allows.",
    )
    NAME_INVALID = ErrorSpec(
        102,
        _CONFIG,
        "A name has invalid characters.",
        "Use letters, digits, '-', ':' and '_', with '/' between parts.",
    )
    NAME_TOO_LONG = ErrorSpec(
        103,
        _CONFIG,
        "A name is too long.",
        "Use a shorter name; the message gives the limit in bytes.",
    )
    FILE_UNFIT = ErrorSpec(
        104,
        _CONFIG,
        "A file given to an option is not a regular file, or is too large.",
        "Give a regular file no larger than the limit in the message.",
    )
    AOI_UNREADABLE = ErrorSpec(
        110,
        _CONFIG,
        "The AOI cannot be read.",
        "Give GeoJSON with polygons and a name, as QGIS, geojson.io or a Geocube ingester write it.",
    )
    AOI_EMPTY = ErrorSpec(111, _CONFIG, "The AOI has no area.", "Draw at least one polygon with an area.")
    AOI_INVALID = ErrorSpec(
        112,
        _CONFIG,
        "The AOI's geometry is not valid.",
        "Repair the geometry at the location in the message, so that no ring crosses itself.",
    )
    AOI_OUTSIDE = ErrorSpec(
        113,
        _CONFIG,
        "No record touches the AOI.",
        "Check the AOI's coordinates (longitude first) and the records with 'acdtask records'.",
    )
    AOI_CRS = ErrorSpec(
        114,
        _CONFIG,
        "The AOI's coordinate system is not supported.",
        "Export the area again in EPSG:4326 (longitude and latitude).",
    )
    EXTRA_MISSING = ErrorSpec(
        115,
        _CONFIG,
        "An optional Python package is not installed.",
        "Install it as the message says.",
    )
    PROJECT_INVALID = ErrorSpec(
        116,
        _CONFIG,
        "The file acd.toml is invalid.",
        "Correct what the message names; 'acdtask init --force' writes a new file.",
    )
    PROJECT_EXISTS = ErrorSpec(
        117,
        _CONFIG,
        "The file acd.toml already exists.",
        "Edit it, or add --force to overwrite it.",
    )
    INPUT_MISSING = ErrorSpec(200, _INPUT, "No input was found.", "Check the source address and the filename pattern.")
    INPUT_UNREADABLE = ErrorSpec(
        201, _INPUT, "A file is damaged or not a raster.", "Fetch the named file again, or remove it from the source."
    )
    INPUT_CRS_MISSING = ErrorSpec(
        202,
        _INPUT,
        "A raster has no coordinate system.",
        "Write the coordinate system into the named file (gdal_edit -a_srs).",
    )
    INPUT_CRS_MISMATCH = ErrorSpec(
        203,
        _INPUT,
        "Rasters of one ingest have different coordinate systems.",
        "Ingest the files of each coordinate system separately.",
    )
    INPUT_RESOLUTION_MISMATCH = ErrorSpec(
        204,
        _INPUT,
        "Rasters of one ingest have different resolutions.",
        "Ingest the files of each resolution separately.",
    )
    INPUT_ALL_NODATA = ErrorSpec(
        205,
        _INPUT,
        "A raster has no valid pixels.",
        "Remove the named file from the source, or check its nodata value.",
    )
    INPUT_NOT_FINITE = ErrorSpec(
        206,
        _INPUT,
        "A raster contains infinite values other than its nodata value.",
        "Give the infinite value as nodata (--source-nodata inf or -inf), or correct the named file.",
    )
    INPUT_OUT_OF_RANGE = ErrorSpec(
        207,
        _INPUT,
        "Values lie outside the range of the variable.",
        "Give the real range of the source values, or correct the named file.",
    )
    INPUT_BANDS = ErrorSpec(
        208,
        _INPUT,
        "A raster does not have the expected bands or data type, or does not say which band to read.",
        "Choose the band (--band), or remove the named file from the source.",
    )
    INPUT_NODATA_UNKNOWN = ErrorSpec(
        209,
        _INPUT,
        "A raster does not define its nodata value.",
        "Give the nodata value of the source (--source-nodata), or nan if only NaN pixels are nodata.",
    )
    FILENAME_UNMATCHED = ErrorSpec(
        210,
        _INPUT,
        "A filename does not match the pattern.",
        "Change --pattern so that it matches the named file, or give the --producer of the images.",
    )
    INPUT_DUPLICATE = ErrorSpec(
        211,
        _INPUT,
        "Two inputs are the same record.",
        "Remove one of the named inputs, or distinguish them with a tag in the pattern.",
    )
    DATES_OUT_OF_ORDER = ErrorSpec(
        212,
        _INPUT,
        "A pair ends before it starts.",
        "Correct the pattern or the named input: the earlier date is the start.",
    )
    TOO_FEW_DATES = ErrorSpec(
        213,
        _INPUT,
        "There are fewer dates than the job needs.",
        "Widen the time range with --start and --end, or lower --min-dates.",
    )
    STAC_INVALID = ErrorSpec(
        214,
        _INPUT,
        "A STAC document is invalid or unsupported.",
        "Give STAC items with GeoTIFF assets: .json, .geojson, .ndjson, or .parquet (stac-geoparquet).",
    )
    DATE_INVALID = ErrorSpec(
        215, _INPUT, "A date cannot be read.", "Write dates as YYYY-MM-DD, or in the format of the pattern."
    )
    TRUTH_UNREADABLE = ErrorSpec(
        216, _INPUT, "The truth file is invalid.", "Give a GeoJSON feature collection of events, each with a date."
    )
    INPUT_REFERS_OUTSIDE = ErrorSpec(
        217,
        _INPUT,
        "A VRT refers to something other than rasters below the source folder.",
        "Move the named file below the source and refer to it by a relative path, or write a GeoTIFF (gdal_translate).",
    )
    INPUT_CHANGED = ErrorSpec(
        220,
        _INPUT,
        "A source file changed while it was being ingested.",
        "Run the command again once nothing writes to the source; the file is then planned and checked again.",
    )
    INPUT_RANGE_UNKNOWN = ErrorSpec(
        221,
        _INPUT,
        "A raster does not say what its values mean.",
        "Give the source values of the variable's minimum and maximum (--source-minimum, --source-maximum).",
    )
    INPUT_CONTRADICTORY = ErrorSpec(
        222,
        _INPUT,
        "A raster and its STAC item disagree about the meaning of its values.",
        "Correct the item or the file, or override both with --source-minimum and --source-maximum.",
    )
    INPUT_TOO_LARGE = ErrorSpec(
        223,
        _INPUT,
        "A raster has too many pixels to ingest at once.",
        "Cut it into parts first (gdal_translate -srcwin), each in its own file.",
    )
    FILENAME_AMBIGUOUS = ErrorSpec(
        230,
        _INPUT,
        "A filename has more dates than the pattern has fields.",
        "Give --pattern a field for each date.",
    )
    SOURCE_FORMAT = ErrorSpec(
        231,
        _INPUT,
        "The images of the source are in an unsupported format.",
        "Convert them to GeoTIFF as the message says.",
    )
    STAC_API_FAILED = ErrorSpec(
        232,
        _INPUT,
        "A STAC API did not return the requested items.",
        "Check the address: https://.../collections/NAME, or https://.../search?collections=NAME.",
    )
    SOURCE_TOO_LARGE = ErrorSpec(
        233,
        _CONFIG,
        "The source has more items than one ingest can take.",
        "Give --aoi, so that only items of its area and time range are requested.",
    )
    STAC_API_UNREACHABLE = ErrorSpec(
        234,
        _TRANSIENT,
        "A STAC API does not respond.",
        "Check the address and the network; the same command continues where it stopped.",
    )
    SOURCE_DIFFERS = ErrorSpec(
        240,
        _INPUT,
        "The pixels of a record differ between the source and the cube.",
        "Take the new pixels with --on-known replace, or keep the cube's with --on-known keep.",
    )
    POLARISATION_MISMATCH = ErrorSpec(
        241,
        _INPUT,
        "The files have several polarisations, or another one than the variable.",
        "Name the variable after the polarisation (--variable CoherenceHH), or choose one with --polarisation.",
    )
    TRACKS_MIXED = ErrorSpec(
        242,
        _INPUT,
        "The selected images are of several tracks, which are not comparable.",
        "Choose one track with --track, or combine them deliberately with --mixed.",
    )
    POLARISATIONS_MIXED = ErrorSpec(
        243,
        _INPUT,
        "The selected images have several polarisations, which are not comparable.",
        "Choose one with --tags polarisation=VV, or combine them deliberately with --mixed.",
    )
    PAIRS_INTERLEAVED = ErrorSpec(
        244,
        _INPUT,
        "The selected pairs form several series that overlap in time but share no date, as two tracks would.",
        "Choose one series with --records, or ingest each with its --track; if they are of one track, add --mixed.",
    )
    RECORDS_OVERLAP = ErrorSpec(
        245,
        _INPUT,
        "Two records of the same day cover the same ground, and their tracks are unknown.",
        "Exclude one with --leave-out, or ingest each with its --track; if they are of one track, add --mixed.",
    )
    TRACK_CONFLICT = ErrorSpec(
        246,
        _CONFIG,
        "A file belongs to a track other than --track.",
        "Omit --track, since the files state their track, or limit the source to files of that track.",
    )
    NOTHING_CHOSEN = ErrorSpec(
        247,
        _CONFIG,
        "No record matches the settings that select records.",
        "Give a track, tag or pair length that records have: 'acdtask records' lists them.",
    )
    BASELINE_OF_ANOTHER_TRACK = ErrorSpec(
        248,
        _INPUT,
        "The images and the baseline are of different tracks or polarisations.",
        "Choose images of the baseline's track with --track, or name another baseline with --baseline-name.",
    )
    WEB_PAGE = ErrorSpec(
        249,
        _INPUT,
        "A server returned a web page instead of an image.",
        "It is usually a login page: give a token (ACD_WEB_TOKEN and ACD_WEB_TOKEN_HOST) or an entry in ~/.netrc.",
    )
    VARIABLE_UNKNOWN = ErrorSpec(
        300, _CONFIG, "The cube has no such variable.", "List the variables with 'acdtask show variables'."
    )
    INSTANCE_UNKNOWN = ErrorSpec(
        301, _CONFIG, "The variable has no such instance.", "List the instances with 'acdtask show variables'."
    )
    LAYOUT_UNKNOWN = ErrorSpec(
        302,
        _CONFIG,
        "The cube has no such layout.",
        "List the layouts with 'acdtask layout list', or make one with 'acdtask layout create'.",
    )
    LAYOUT_INVALID = ErrorSpec(
        303,
        _CONFIG,
        "The layout does not define a valid grid.",
        "Give a projected or geographic CRS, a positive resolution and a cell size of 1 to 65536 px.",
    )
    VARIABLE_CONFLICT = ErrorSpec(
        304,
        _CONFIG,
        "The variable already exists with another definition.",
        "Use another name, or the definition shown in the message.",
    )
    LAYOUT_CONFLICT = ErrorSpec(
        305,
        _CONFIG,
        "The layout already exists with another grid.",
        "Use another name, or the grid shown in the message.",
    )
    DATASET_CONFLICT = ErrorSpec(
        306,
        _INPUT,
        "The record already has different data for this instance.",
        "Use another instance, or do not ingest the named record.",
    )
    BASELINE_UNKNOWN = ErrorSpec(
        307,
        _INPUT,
        "There is no baseline to compare with.",
        "Run 'acdtask baseline local' for this AOI, variable and layout first.",
    )
    MONITOR_UNKNOWN = ErrorSpec(
        308, _INPUT, "There is no monitoring result to report.", "Run 'acdtask monitor local' for this AOI first."
    )
    FORMAT_UNKNOWN = ErrorSpec(
        309, _CONFIG, "The extension of an output file is unknown.", "End it with .parquet or .geojson."
    )
    CUBE_UNKNOWN = ErrorSpec(
        310, _INPUT, "There is no cube at this address.", "Check the address, or make a cube with 'acdtask ingest'."
    )
    CUBE_VERSION = ErrorSpec(
        311, _CONFIG, "The cube was written by a newer acd.", "Use the acd version in the message, or a newer one."
    )
    CUBE_DAMAGED = ErrorSpec(
        312,
        _INPUT,
        "A file of the cube is missing or damaged.",
        "Run 'acdtask verify': it says how to recreate the file. Restore other files from a backup.",
    )
    IN_USE = ErrorSpec(
        313,
        _CONFIG,
        "Something that is in use cannot be removed.",
        "Remove what uses it first, or together with it.",
    )
    FILES_DAMAGED = ErrorSpec(
        314,
        _INPUT,
        "Files of the cube are missing or damaged.",
        "Run the printed commands in order, then verify again.",
    )
    RUN_DAMAGED = ErrorSpec(
        317,
        _INPUT,
        "A file of a run is damaged.",
        "Delete the folder that the message names and run the job again.",
    )
    PRODUCT_DAMAGED = ErrorSpec(
        318,
        _INPUT,
        "A published result is damaged.",
        "Restore the named file from a backup, or delete it and rerun the job that wrote it.",
    )
    NOTHING_JUDGED = ErrorSpec(
        330,
        _CONFIG,
        "No pixel of the new images could be judged.",
        "Change the setting that the message names, or give images that have data in the area.",
    )
    BASELINE_EMPTY = ErrorSpec(
        331,
        _CONFIG,
        "No pixel of the area has a mean: no image of the baseline has data there.",
        "Check the AOI, --variable and --instance, and the nodata value that the images were ingested with.",
    )
    LAYOUT_TOO_FINE = ErrorSpec(
        340,
        _CONFIG,
        "The layout has more tiles in the area than a job can take.",
        "Make a layout with a larger --resolution (in the CRS's unit: metres or degrees) or a larger --cell-size.",
    )
    BASELINE_PERIOD_OPEN = ErrorSpec(
        341,
        _INPUT,
        "No period was given for the baseline, and the images do not span more than a year.",
        "Give the last date of the baseline (--end, or end in [baseline] of acd.toml); later images are monitored.",
    )
    STACK_UNFIT = ErrorSpec(
        360,
        _INPUT,
        "An array is neither an image nor a stack of images.",
        "Give a stack of shape (time, y, x) to baseline, and an image of shape (y, x) to monitor.",
    )
    SCALE_UNKNOWN = ErrorSpec(
        361,
        _CONFIG,
        "The scale of an image's integers is unknown.",
        "Give the scale that turns a stored number into coherence: scale=0.001 for 0 to 1000, scale=1/255 for bytes.",
    )
    PIXELS_DIFFER = ErrorSpec(
        362,
        _INPUT,
        "An image and its baseline do not have the same pixels.",
        "Bring both onto one grid first, for example with rioxarray's reproject_match.",
    )
    SAVED_UNREADABLE = ErrorSpec(
        363,
        _INPUT,
        "A file is not a saved baseline or change, or it is damaged.",
        "Give a file written by 'save', or compute it again from its images.",
    )
    IMAGE_UNJUDGED = ErrorSpec(
        365,
        _INPUT,
        "No pixel of an image could be judged.",
        "Change the image, the area or the threshold that the message names.",
    )
    IMAGE_REPEATED = ErrorSpec(
        366,
        _INPUT,
        "An image is already in the baseline, or was never in it.",
        "Add each image once, and subtract only images that were added.",
    )
    WEB_DENIED = ErrorSpec(
        367,
        _CONFIG,
        "A web server refused access to a file.",
        "Give a token (ACD_WEB_TOKEN and ACD_WEB_TOKEN_HOST) or an entry in ~/.netrc; renew a signed URL.",
    )
    WEB_UNREACHABLE = ErrorSpec(
        368,
        _TRANSIENT,
        "A web server did not deliver a file.",
        "Check the address and the network; the same command continues where it stopped.",
    )
    WEB_REDIRECTED = ErrorSpec(
        369,
        _CONFIG,
        "A URL redirects to a host that acd does not follow.",
        "If you trust that host, download the file and give its folder as --source.",
    )
    STORE_UNREACHABLE = ErrorSpec(
        400,
        _TRANSIENT,
        "The storage does not respond.",
        "Check the endpoint and the network; the same command continues where it stopped.",
    )
    BUCKET_UNKNOWN = ErrorSpec(401, _CONFIG, "There is no such bucket.", "Create the bucket, or correct the address.")
    STORE_DENIED = ErrorSpec(
        402,
        _CONFIG,
        "Access to the storage was denied.",
        "Grant this user read and write access to the named location.",
    )
    DISK_FULL = ErrorSpec(
        403, _TRANSIENT, "The disk is full.", "Free some space; the same command continues where it stopped."
    )
    STORE_CONTENDED = ErrorSpec(
        404, _TRANSIENT, "Too many writers changed the cube at once.", "Run the command again in a minute."
    )
    ADDRESS_INVALID = ErrorSpec(
        405, _CONFIG, "The address is neither a folder nor s3://bucket/prefix.", "Give a folder, or s3://bucket/prefix."
    )
    ADDRESS_OUTSIDE = ErrorSpec(
        406,
        _CONFIG,
        "The server may not open a file at this address.",
        "Move the file below the cube, or name its folder or s3:// prefix with --data when the server starts.",
    )
    ADDRESS_MALFORMED = ErrorSpec(
        407,
        _CONFIG,
        "The address of a file is neither an absolute path nor an s3:// address.",
        "Give an absolute path or an s3:// address, without GDAL prefixes, queries or control characters.",
    )
    OUTPUT_UNWRITABLE = ErrorSpec(
        411,
        _CONFIG,
        "An output file or folder cannot be written.",
        "Give a file in an existing folder, or a folder at a path that is not a file.",
    )
    ENDPOINT_INVALID = ErrorSpec(
        412,
        _CONFIG,
        "The address of the object store in the environment is invalid.",
        "Set AWS_ENDPOINT_URL to http:// or https://, a host and optionally a port, or unset it for AWS.",
    )
    STORE_CONFIG_INVALID = ErrorSpec(
        413,
        _CONFIG,
        "The object store's configuration in the environment is invalid.",
        "Correct the environment variable (AWS_...) that the message names.",
    )
    KEY_UNFIT = ErrorSpec(
        414,
        _INPUT,
        "An object's key cannot be read.",
        "Copy the named object to a key without empty parts (//), '.' and '..', or give a prefix that excludes it.",
    )
    PLAN_UNKNOWN = ErrorSpec(
        500, _INPUT, "There is no such plan.", "Run 'plan' first, and give the plan id that it prints."
    )
    SHARD_UNKNOWN = ErrorSpec(
        501, _CONFIG, "The plan has no such round or shard.", "Use a round and shard printed by 'plan'."
    )
    SHARDS_MISSING = ErrorSpec(
        502, _TRANSIENT, "Some shards of the round are not done.", "Run the named shards, then gather again."
    )
    WORKER_LOST = ErrorSpec(
        503,
        _TRANSIENT,
        "A worker process was killed.",
        "Give it more memory, or use fewer workers; the same command continues where it stopped.",
    )
    INTERRUPTED = ErrorSpec(
        504, _TRANSIENT, "The run was interrupted.", "Run the same command again: it does only the missing work."
    )
    PLAN_STALE = ErrorSpec(505, _CONFIG, "The plan was made by another version of acd.", "Plan again.")
    PLAN_TOO_LARGE = ErrorSpec(
        506,
        _CONFIG,
        "The plan is too large for one workflow.",
        "Make smaller shards, or plan a shorter time range or a smaller AOI.",
    )
    SHARDS_FAILED = ErrorSpec(
        507,
        _INPUT,
        "More shards failed permanently than --quarantine allows.",
        "Fix the cause in the message and run again; only these shards are redone. Or leave them out: --quarantine.",
    )
    PLAN_OVERTAKEN = ErrorSpec(
        508,
        _INPUT,
        "A newer plan has already published other results for the same images.",
        "Run the job again: it plans the remaining work, and nothing is lost.",
    )
    RUN_UNKNOWN = ErrorSpec(
        510,
        _INPUT,
        "The store has no record of this run.",
        "Give the uid of a workflow that ran on this cube, as its stages had it in ACD_RUN_ID.",
    )
    RETENTION_TOO_SHORT = ErrorSpec(
        520,
        _CONFIG,
        "The retention is shorter than a job may run.",
        "Give --keep-days 2 or more, or stop all jobs and servers of the cube and add --unsafe-short-retention.",
    )
    TIDY_UNSURE = ErrorSpec(
        521,
        _INPUT,
        "A document that lists files in use cannot be read, so tidy stopped.",
        "Restore the named document, or recreate its product; no file that it could list was deleted.",
    )
    WEB_CREDENTIALS = ErrorSpec(
        531,
        _CONFIG,
        "The credentials for a web server are invalid or incomplete.",
        "Set ACD_WEB_TOKEN to the token and ACD_WEB_TOKEN_HOST to its host, or correct ~/.netrc.",
    )
    WEB_ADDRESS = ErrorSpec(
        532,
        _CONFIG,
        "A URL is not valid.",
        "Give http:// or https://, a host and the path of a file, without user or password.",
    )
    MONITORS_INVALID = ErrorSpec(
        540,
        _CONFIG,
        "Monitors cannot run with their settings and areas.",
        "Correct what the message names in the values of the chart, and install again.",
    )
    MONITORS_UNCHECKED = ErrorSpec(
        541,
        _TRANSIENT,
        "Monitors could not be checked, since a server did not respond.",
        "Check the named address, and try again.",
    )
    WEBHOOK_INVALID = ErrorSpec(
        600,
        _CONFIG,
        "The webhook address is invalid.",
        "Give http:// or https:// and a host, without user or password; put a token into ACD_WEBHOOK_AUTHORIZATION.",
    )
    WEBHOOK_UNREACHABLE = ErrorSpec(
        601,
        _TRANSIENT,
        "The webhook cannot be reached or is busy.",
        "Check that the receiver is running and reachable from here; the same command posts the same event again.",
    )
    WEBHOOK_REFUSED = ErrorSpec(
        602,
        _CONFIG,
        "The webhook rejected the event.",
        "Check the address and the value of ACD_WEBHOOK_AUTHORIZATION with the operator of the receiver.",
    )
    GEOCUBE_UNREACHABLE = ErrorSpec(
        700,
        _TRANSIENT,
        "The Geocube server does not respond.",
        "Check the address and the network; the same command continues where it stopped.",
    )
    GEOCUBE_DENIED = ErrorSpec(
        701,
        _CONFIG,
        "The Geocube server rejected the API key.",
        "Set ACD_GEOCUBE_KEY to a key that the server accepts.",
    )
    GEOCUBE_TLS = ErrorSpec(
        702,
        _CONFIG,
        "The Geocube server and this client do not agree on TLS.",
        "Use geocubes:// for a server with TLS, geocube:// for one without; for a private CA, set ACD_GEOCUBE_CA_FILE.",
    )
    GEOCUBE_REFUSED = ErrorSpec(
        703, _CONFIG, "The Geocube server rejected the request.", "Correct what the server's message names."
    )
    GEOCUBE_FAILED = ErrorSpec(
        704, _INPUT, "The Geocube server failed.", "Check the server's log at the time of the message."
    )
    IMAGE_FAILED = ErrorSpec(
        705,
        _INPUT,
        "The Geocube server could not read an image.",
        "Restore the named file at the path that the server reads, or exclude the record.",
    )
    JOB_UNKNOWN = ErrorSpec(706, _CONFIG, "The cube has no such job.", "List the jobs with 'acdtask geocube jobs'.")
    JOB_CONFLICT = ErrorSpec(707, _CONFIG, "A job with that name already exists.", "Give the job another name.")
    JOB_STATE = ErrorSpec(
        708, _CONFIG, "The state of the job does not allow this.", "Check the job's state and log first."
    )
    JOB_STUCK = ErrorSpec(
        709,
        _INPUT,
        "A job of the cube failed and waits for a decision.",
        "Fix the cause of the job's last error, then retry it, or cancel it to release its datasets.",
    )
    DATASET_LOCKED = ErrorSpec(
        710,
        _INPUT,
        "Another job is working on these datasets.",
        "Wait for the named job, or cancel it if it failed.",
    )
    SERVE_FAILED = ErrorSpec(
        711, _CONFIG, "The server cannot start.", "Choose another port, or correct the file that the message names."
    )
    GRID_TOO_COARSE = ErrorSpec(
        712,
        _CONFIG,
        "An image on this grid would need more source pixels than acd can read at once.",
        "Request a finer grid, a smaller area or fewer records.",
    )
    AREA_TOO_COMPLEX = ErrorSpec(
        713,
        _CONFIG,
        "An area has more points, crossings or cells than acd can process at once.",
        "Simplify the area so that it does not cross itself, or request it in parts.",
    )
    JOB_FAILED = ErrorSpec(
        715,
        _INPUT,
        "A job of the cube ended without a result.",
        "Check the job's log, then start it again under another name.",
    )
    JOB_RUNNING = ErrorSpec(
        716, _TRANSIENT, "A job of the cube has not finished.", "Follow it again later, or give it more time."
    )
    INGESTER_UNREACHABLE = ErrorSpec(
        720,
        _TRANSIENT,
        "The ingester does not respond.",
        "Check the address and the network; the same command continues where it stopped.",
    )
    INGESTER_DENIED = ErrorSpec(
        721, _CONFIG, "The ingester rejected the token.", "Set ACD_INGESTER_TOKEN to the ingester's bearer token."
    )
    INGESTER_REFUSED = ErrorSpec(
        722, _CONFIG, "The ingester rejected the request.", "Correct what the ingester's message names."
    )
    INGESTER_FAILED = ErrorSpec(
        723,
        _INPUT,
        "Scenes or tiles of the ingester failed permanently.",
        "Fix the causes in the messages of the named scenes, then run 'acdtask ingester retry'.",
    )
    INGESTER_WAITING = ErrorSpec(
        724,
        _TRANSIENT,
        "The ingester has not finished.",
        "Run the same command again later, or give it more time: --wait-minutes of 'acdtask ingest', --minutes of "
        "'acdtask ingester wait'.",
    )
    BUG = ErrorSpec(
        900,
        _BUG,
        "acd ran into an unexpected condition: a bug.",
        "Report it with the log; the cube is unchanged.",
    )

    @property
    def label(self) -> str:
        """The error's public name, as messages and pages quote it.

        >>> ErrorCode.AOI_EMPTY.label
        'ACD-111'
        """
        return f"ACD-{self.value.number}"


class AcdError(Exception):
    """An error that the user can act on.

    Args:
        code: the kind of error.
        detail: one sentence that names the file, record or setting at fault.
        fix: a more specific fix than the default of `code`.

    >>> print(AcdError(ErrorCode.AOI_EMPTY, "koln.json has no polygon"))
    ACD-111: koln.json has no polygon. Draw at least one polygon with an area.
    """

    def __init__(self, code: ErrorCode, detail: str, fix: str | None = None) -> None:
        self.code = code
        self.detail = detail.rstrip(".")
        self.fix = fix or code.value.fix
        super().__init__(code, detail, fix)

    def __str__(self) -> str:
        return f"{self.code.label}: {self.detail}. {self.fix}"

    def __reduce__(self) -> tuple[type[AcdError], tuple[ErrorCode, str, str]]:
        return type(self), (self.code, self.detail, self.fix)
