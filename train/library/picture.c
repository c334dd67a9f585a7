/* AtlPicture: files of pictures, for hosts that have no library of their own for them. */
#include "data/pictures/picture.h"
#include "infer/sample/picture_text.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "train/atelier.h"

#include <string.h>

#define FILE_LIMIT ((size_t)1 << 30)

void atl_picture_free(AtlPicture *p)
{
    if (!p)
        return;
    mem_free(p->rgb);
    mem_free(p->settings);
    *p = (AtlPicture){0};
}

int atl_picture_read(const char *path, AtlPicture *out)
{
    char *bytes = NULL;
    size_t size;
    Picture p = {0};
    *out = (AtlPicture){0};
    TRY(file_check_source(path, "picture"));
    TRY(file_read(path, FILE_LIMIT, &bytes, &size));
    Status s = status_in(picture_decode((const uint8_t *)bytes, size, &p), "%s", path);
    if (s == STATUS_OK)
        s = picture_text((const uint8_t *)bytes, size, PICTURE_SETTINGS, &out->settings);
    mem_free(bytes);
    if (s != STATUS_OK) {
        picture_free(&p);
        return (int)s;
    }
    out->width = p.size.width;
    out->height = p.size.height;
    out->rgb = p.rgb;
    return ATL_OK;
}

int atl_picture_write(const AtlPicture *p, const char *path)
{
    if (!p->rgb || p->width < 1 || p->height < 1)
        return (int)status_refuse("atl_picture_write: %s: there is no picture", path);
    const Picture picture = {{p->width, p->height}, p->rgb};
    const PictureText text = {PICTURE_SETTINGS, p->settings};
    return (int)picture_write_png(path, &picture, &text, p->settings ? 1 : 0);
}
